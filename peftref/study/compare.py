"""The main job: train techniques on a host for a task, alike and with tuned learning rates; evaluate, measure, and keep every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftref.core.problem import PeftrefError, Problem, fail
from peftref.design.defaults import defaults
from peftref.design.opaque import Opaque
from peftref.exchange.peft.opaque import attach_opaque, count_opaque
from peftref.host.host import Host
from peftref.host.locate.resolve import read_config, resolve
from peftref.host.presets import preset_names
from peftref.modules.attach import attach
from peftref.study.attached import Attach
from peftref.study.entries import Budget, Wanted, entries, wanted_techniques
from peftref.study.machine import pick_device, pin_threads
from peftref.study.measure import Gauge
from peftref.study.offline.grammar import task_rows
from peftref.study.offline.host import offline_host
from peftref.study.plan import DataFacts, Entry, HostFacts, Run, Schedule, Study
from peftref.study.progress import Progress, progress
from peftref.study.run import Workbench, execute
from peftref.study.store import Store
from peftref.study.timing import Batch
from peftref.study.train.classifier import Classifier, load_classifier
from peftref.study.train.data import Encoded, encode, order
from peftref.study.train.metrics import accuracy, macro_f1
from peftref.study.train.read import local_task, read_task
from peftref.study.train.rows import Dataset
from peftref.study.train.task import Task, load_task
from peftref.study.train.tokenizer import Tokenizer, load_tokenizer

LRS = (3e-4, 1e-3, 3e-3, 1e-2)
WIDEN = 2
"""The learning rates tried for every technique, and how many more where the best stands at the edge; a grid of one's own is kept to."""

GENERATORS = {"grammar": task_rows}


@dataclass(frozen=True, slots=True)
class Result:
    """A finished study: its plan, the folder of its records, and the records of its final runs by technique label."""

    study: Study
    folder: Path
    finals: Mapping[str, tuple[dict[str, Any], ...]]


def compare(
    techniques: Sequence[str | Wanted] | None = None,
    *,
    host: Any = None,
    task: str | Task | None = None,
    data: str | Path | None = None,
    seeds: int = 3,
    steps: int = 300,
    budget: Budget = None,
    lrs: Sequence[float] | None = None,
    batch_size: int = 32,
    out: str | Path | None = None,
    device: str | None = None,
    measured: bool = True,
    show: bool = True,
) -> Result:
    """Compares techniques on a host and a task, and keeps one record per run in a folder; the same call goes on where it stopped.

    techniques: left out, those of `catalog/defaults.yaml`.
    host: a folder, a hub name, a config or a live model; without one, the offline host. task: a task's name, `data` a folder or
    file that goes before the task's own source; data alone are a task with the columns `text` and `label`, and without a host and
    data there is the offline task. seeds: runs per technique. steps: optimizer steps of a run; each learning rate of `lrs` is tried
    for a third of them. budget: `0.5%` of the host or a number of trained parameters that every technique is sized to. measured:
    also time, FLOPs and memory. show: progress on the terminal. Raises PeftrefError with what is wrong before anything is trained.
    """
    chosen, wanted = _asked(defaults().compare if techniques is None else techniques, host, task, data)
    where = pick_device(device)
    pin_threads()
    grid = tuple(sorted(set(lrs or LRS)))
    with progress(show) as bar:
        rows = read_task(wanted, Path(data) if data is not None else None, GENERATORS)
        source = _host(host, bar)
        classifier, tokenizer = _classifier(source, rows)
        there = resolve(classifier.model)
        entrants = entries(chosen, there, budget, lambda each: count_opaque(classifier.model, each))
        study = Study(
            techniques=tuple(entry for entry, _ in entrants.values()),
            host=_host_facts(source, there, classifier),
            data=_data_facts(wanted, rows),
            seeds=tuple(range(seeds)),
            lrs=grid,
            widen=WIDEN if grid == LRS else 0,
            schedule=Schedule(
                steps=steps,
                tune_steps=max(1, steps // 3),
                batch_size=batch_size,
                eval_every=max(1, steps // 5),
            ),
            notes=(*rows.notes, *([tokenizer.note] if tokenizer.note else [])),
        )
        store = Store(Path(out) if out is not None else Path("peftref-runs") / study.id)
        store.prepare()
        with store.locked():
            store.write_plan(study.model_dump(mode="json"))
            splits = {
                split: encode(rows.split(split), tokenizer, wanted.max_length) for split in ("train", "dev", "test")
            }
            bench = _bench(classifier, study, splits, where, measured)
            bar.start(study.steps(), f"{', '.join(entrants)} on {study.host.name}, {rows.name}: {store.folder}")
            try:
                finals = {
                    label: _technique(study, entry, technique, bench, store, bar)
                    for label, (entry, technique) in entrants.items()
                }
            except KeyboardInterrupt:
                kept = f"finished runs are kept in {store.runs}; run the same command again to go on"
                raise KeyboardInterrupt(kept) from None
    return Result(study, store.folder, finals)


def _technique(
    study: Study, entry: Entry, technique: Wanted, bench: Workbench, store: Store, bar: Progress
) -> tuple[dict[str, Any], ...]:
    """All runs of one technique: the learning rates on the first seed, then every seed at the best of them."""
    tuning: list[dict[str, Any]] = []
    while (run := study.tuning(entry, tuning)) is not None:
        if len(tuning) >= len(study.lrs):
            bar.more(run.steps)
        tuning.append(_run(run, entry, technique, bench, store, bar))
    lr = study.rate(tuning)
    if lr is None:
        bar.skip(study.schedule.steps * len(study.seeds))
        return tuple(tuning[:1])
    return tuple(_run(run, entry, technique, bench, store, bar) for run in study.final(entry, lr))


def _run(run: Run, entry: Entry, technique: Wanted, bench: Workbench, store: Store, bar: Progress) -> dict[str, Any]:
    known = store.read(run.id)
    if known is not None and known["status"] != "failed":
        bar.skip(run.steps)
        return known
    with bar.run(f"{entry.label} lr {run.lr:g} seed {run.seed} ({run.stage})", run.steps) as tick:
        record = execute(run, entry, technique, bench, tick)
    store.write(run.id, record)
    return record


def _asked(
    techniques: Sequence[str | Wanted], host: Any, task: str | Task | None, data: str | Path | None
) -> tuple[list[Wanted], Task]:
    """The techniques and the task that are asked for; every problem with either in one error."""
    chosen, problems = wanted_techniques(techniques)
    if host is None and data is not None:
        hint = "give --host FOLDER_OR_NAME, or neither for the offline default"
        problems.append(Problem("no-host", "data is given, but no host", hint=hint))
    try:
        wanted = _task(task, data, offline=host is None)
    except PeftrefError as error:
        raise PeftrefError([*problems, *error.problems]) from None
    if problems:
        raise PeftrefError(problems)
    return chosen, wanted


def _task(task: str | Task | None, data: str | Path | None, *, offline: bool) -> Task:
    if isinstance(task, Task):
        return task
    if task is not None:
        return load_task(task)
    if data is not None:
        return local_task(Path(data))
    if offline:
        return load_task("grammar")
    raise fail("no-task", "no task is given", hint="give --task, for example --task sst2")


def _host(host: Any, bar: Progress) -> Any:
    if host is not None:
        return str(host) if isinstance(host, Path) else host
    with bar.task("pretraining the offline host (first use only)") as tick:
        return str(offline_host(tick=tick))


def _classifier(source: Any, rows: Dataset) -> tuple[Classifier, Tokenizer]:
    if isinstance(source, str) and source in preset_names() and not Path(source).is_dir():
        hint = "give a folder with weights, or a hub name"
        raise fail("host-unreachable", f"the preset {source} has sizes and no weights to train on", hint=hint)
    config = read_config(source) if isinstance(source, str) else getattr(source, "config", source)
    name = source if isinstance(source, str) else str(getattr(config, "_name_or_path", "") or "")
    if not name:
        hint = "give the folder or the hub name it was loaded from"
        raise fail("no-tokenizer", "a live host needs a tokenizer", hint=hint)
    tokenizer = load_tokenizer(name, config)
    return load_classifier(source, len(rows.labels), tokenizer.pad_id), tokenizer


def _host_facts(source: Any, host: Host, classifier: Classifier) -> HostFacts:
    return HostFacts(
        name=Path(source).name if isinstance(source, str) and Path(source).is_dir() else str(host.name),
        model_type=host.model_type,
        parameters=host.parameters,
        head_parameters=sum(
            parameter.numel() for name, parameter in classifier.model.named_parameters() if name in classifier.head
        ),
        fingerprint=classifier.fingerprint(),
        random=classifier.random,
    )


def _data_facts(task: Task, rows: Dataset) -> DataFacts:
    return DataFacts(
        task=task.name,
        title=task.title,
        metric=task.metric,
        selection=task.selection.metric,
        labels=rows.labels,
        rows=rows.sizes(),
        max_length=task.max_length,
        fingerprint=rows.fingerprint(),
        guess=_guess(rows),
        notes=rows.notes,
    )


def _guess(rows: Dataset) -> dict[str, float]:
    frequent = max(range(len(rows.labels)), key=rows.train.labels.count)
    guesses = [frequent] * len(rows.test)
    return {"accuracy": accuracy(rows.test.labels, guesses), "macro_f1": macro_f1(rows.test.labels, guesses)}


def _bench(
    classifier: Classifier, study: Study, splits: Mapping[str, Encoded], device: str, measured: bool
) -> Workbench:
    attaching = _attaching(study.schedule.batch_size, round(float(splits["train"].lengths.float().mean())))
    gauge = None
    if measured:
        train = splits["train"]
        batches: list[Batch] = [
            train.batch(rows, device) for rows in order(len(train), study.schedule.batch_size, 4, 0)
        ]
        gauge = Gauge(classifier, device, batches, attaching)
    return Workbench(
        classifier=classifier,
        host=study.host,
        train=splits["train"],
        dev=splits["dev"],
        test=splits["test"],
        device=device,
        attach=attaching,
        gauge=gauge,
        measured_seed=study.seeds[0],
    )


def _attaching(batch: int, length: int) -> Attach:
    """Attaching in the form that is cheapest for the study's batches."""

    def attaching(model: Any, technique: Any, *, seed: int = 0) -> Any:
        if isinstance(technique, Opaque):
            return attach_opaque(model, technique, seed=seed)
        return attach(model, technique, seed=seed, batch=batch, length=length)

    return attaching
