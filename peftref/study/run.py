"""One run: train a technique's module on a task with one seed, evaluate it, measure it, and say all of it in one record."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from torch import nn

from peftref.study.attached import Attach, Attached, trainable
from peftref.study.machine import environment
from peftref.study.measure import Gauge, measure
from peftref.study.plan import Entry, HostFacts, Run
from peftref.study.train.classifier import Classifier
from peftref.study.train.data import Encoded, batches
from peftref.study.train.loop import Recipe, Training, evaluate, train
from peftref.study.train.metrics import Scores

Tick = Callable[[int], None]
BEGINS = 16
"""Batches of the training split that a technique begins from, where it begins from data."""


@dataclass(frozen=True, slots=True)
class Workbench:
    """What the runs of a study share: the pristine classifier, the encoded splits, the device, and how to attach."""

    classifier: Classifier
    host: HostFacts
    train: Encoded
    dev: Encoded
    test: Encoded
    device: str
    attach: Attach
    gauge: Gauge | None
    measured_seed: int = 0


def execute(run: Run, entry: Entry, technique: Any, bench: Workbench, tick: Tick = lambda step: None) -> dict[str, Any]:
    """Do a run and give its record. A run that raises is a record too, of status `failed`; KeyboardInterrupt goes through.

    The test split is evaluated once, after training, in final runs only.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    try:
        body = _body(run, technique, entry, bench, tick)
    except Exception as error:  # whatever broke is a result of the study, shown in its report
        text = " ".join(str(error).split())[:500]
        body = {
            "status": "failed",
            "error": f"{type(error).__name__}: {text}",
            "traceback": traceback.format_exc(limit=-8),
            "notes": [],
        }
    return {
        "id": run.id,
        "run": run.model_dump(mode="json"),
        "technique": entry.model_dump(mode="json"),
        "host": bench.host.model_dump(mode="json"),
        **body,
        "started": started.isoformat(timespec="seconds"),
        "seconds": time.perf_counter() - clock,
        "environment": environment(bench.device),
    }


def _body(run: Run, technique: Any, entry: Entry, bench: Workbench, tick: Tick) -> dict[str, Any]:
    model = bench.classifier.fresh(run.seed, bench.device)
    head = [one for name, one in model.named_parameters() if name in bench.classifier.head]
    attached = bench.attach(model, technique, seed=run.seed)
    if attached.waiting:
        chosen = batches(bench.train, run.batch_size, BEGINS, run.seed)
        attached.begin([bench.train.batch(rows, bench.device) for rows in chosen])
    parameters = trainable(model, attached, head)
    recipe = Recipe(
        steps=run.steps,
        lr=run.lr,
        batch_size=run.batch_size,
        warmup=run.warmup,
        weight_decay=run.weight_decay,
        clip=run.clip,
        eval_every=run.eval_every,
    )
    training = train(model, parameters, bench.train, bench.dev, recipe, run.seed, tick, attached.lr_factor, attached)
    notes = _count_notes(entry, attached, head)
    body: dict[str, Any] = {
        "status": training.status,
        "error": None,
        "training": _training(training),
        "dev": _dev(training, run.metric),
    }
    if training.status == "diverged":
        body["error"] = f"the loss was no longer finite at step {training.steps} of {run.steps}"
    elif run.stage == "final":
        body["test"] = asdict(evaluate(model, bench.test))
        if bench.gauge is not None and run.seed == bench.measured_seed:
            body["measures"], failed = measure(bench.gauge, model, attached, parameters, technique, run.definition)
            notes += failed
    return {**body, "notes": notes}


def _count_notes(entry: Entry, attached: Attached, head: list[nn.Parameter]) -> list[str]:
    own = {id(one) for one in head}
    built = sum(one.numel() for one in attached.parameters() if id(one) not in own)
    if built == entry.trained:
        return []
    return [f"the module trains {built:,} parameters, its formula says {entry.trained:,}"]


def _training(training: Training) -> dict[str, Any]:
    curve = [{"step": one.step, "loss": one.loss, "dev": asdict(one.dev)} for one in training.curve]
    return {"steps": training.steps, "seconds": training.seconds, "curve": curve}


def _dev(training: Training, metric: str) -> dict[str, Any] | None:
    if not training.curve:
        return None
    last: Scores = training.curve[-1].dev
    return {"score": last.metric(metric), "metric": metric, "loss": last.loss}
