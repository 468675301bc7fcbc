"""Side by side with installed peft: step times in turn in one process, and bytes saved for backward, on the same seeded host.

`python -m benchmarks.peers` prints a table; what peft calls a technique stands in the technique's own file.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.parity import told
from benchmarks.stages import PLANS, Stage
from benchmarks.stages import stage as make_stage
from peftref.core.problem import PeftrefError, fail
from peftref.design.load import load, techniques
from peftref.design.placement import placements
from peftref.design.technique import Technique
from peftref.design.write import write_whole
from peftref.exchange.peft.form import LIBRARY, config, peer_of
from peftref.modules.attach import attach
from peftref.study.machine import environment, pick_device
from peftref.study.memory import saved_bytes
from peftref.study.timing import Batch, contender, step_times

CAUSAL = "CAUSAL_LM"


def known() -> tuple[str, ...]:
    """The techniques that peft has too, those among them whose checkpoints cannot be exchanged."""
    return tuple(technique.name for technique in techniques() if LIBRARY in technique.peers)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long each technique is timed: rounds of one step each, at most so many seconds, and in which way models are called.

    warm_up: steps of each that are not counted, after the one in which the bytes saved are counted. compiled: by `torch.compile`, all
    of them. autocast: in bfloat16 where torch's rules say so.
    """

    rounds: int = 15
    seconds: float = 120.0
    warm_up: int = 2
    compiled: bool = False
    autocast: bool = False

    def called(self, model: Any) -> Any:
        """What is called, timed, and asked for the bytes that it saves."""
        way = Autocast(model) if self.autocast else model
        return torch.compile(way) if self.compiled else way


class Autocast(nn.Module):
    """A model that is called under autocast in bfloat16."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, **batch: torch.Tensor) -> Any:
        """What the model gives."""
        with torch.autocast(next(self.model.parameters()).device.type, torch.bfloat16):
            return self.model(**batch)


def measure(stage: Stage, chosen: Sequence[Technique], effort: Effort) -> Iterator[dict[str, Any]]:
    """One record per technique, as soon as it is there: step times here, in peft and of the frozen host, and bytes saved for backward.

    All models begin from the same seeded weights; what the stage trains besides is trained in each. Techniques that need a slot
    that the stage has not are left out. One that peft has for another task than the stage's is measured on a host for that task.
    """
    fitting = [technique for technique in chosen if _stands(technique, stage)]
    for number, technique in enumerate(fitting):
        print(f"{stage.name}: {technique.name} ({number + 1} of {len(fitting)})", file=sys.stderr, flush=True)
        yield _one(_for_task(technique, stage), technique, effort)
        torch.compiler.reset()  # else code that was compiled for too many models is not compiled for the next
        gc.collect()  # a model and its taps know each other: python alone lets gigabytes of them pile up


def _one(stage: Stage, technique: Technique, effort: Effort) -> dict[str, Any]:
    own = _own(technique, stage)
    models: dict[str, Any] = {"peftref": own}
    called = {"peftref": effort.called(own)}
    extra: dict[str, Batch] = {"peftref": {}, "peft": told(technique, stage.batch)}
    problem = None
    try:
        models["peft"] = _theirs(technique, stage)
        _same(technique, own, models["peft"])
        called["peft"] = effort.called(models["peft"])
        saved = {"peft": saved_bytes(called["peft"], {**stage.batch, **extra["peft"]})}
    except Exception as error:  # a peer that cannot run the host is a result too
        models.pop("peft", None)
        saved = {}
        problem = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    saved["peftref"] = saved_bytes(called["peftref"], {**stage.batch, **extra["peftref"]})
    frozen = stage.frozen()
    racing = [
        *(contender(name, called[name], _trained(model), extra[name]) for name, model in models.items()),
        replace(frozen, model=effort.called(frozen.model)),
    ]
    times = step_times(racing, [stage.batch], warm_up=effort.warm_up, rounds=effort.rounds, seconds=effort.seconds)
    return {
        "technique": technique.name,
        "host": stage.name,
        "task": stage.task,
        "trained": sum(one.numel() for one in _trained(own)),
        "trained_peft": sum(one.numel() for one in _trained(models["peft"])) if "peft" in models else None,
        "seconds": times["peftref"].median,
        "seconds_peft": times["peft"].median if "peft" in times else None,
        "ratio_to_peft": times["peftref"].ratio.get("peft"),
        "ratio_to_frozen_host": times["peftref"].ratio["frozen"],
        "saved": saved["peftref"],
        "saved_ratio": saved["peftref"] / saved["peft"] if "peft" in saved else None,
        "rounds": times["peftref"].rounds,
        "problem": problem,
    }


def _stands(technique: Technique, stage: Stage) -> bool:
    try:
        return bool(placements(technique, stage.host))
    except PeftrefError:
        return False


def _own(technique: Technique, stage: Stage) -> Any:
    model = copy.deepcopy(stage.model)
    batches = [stage.batch] if technique.procedures else None
    attach(model, technique, batch=stage.samples, length=stage.length, host=stage.host, batches=batches)
    for name in stage.also:
        model.get_parameter(name).requires_grad_(True)
    return model


def _for_task(technique: Technique, stage: Stage) -> Stage:
    """The stage, or one like it for the next token where peft has the technique for that task alone."""
    if stage.task is None or _takes(technique, stage, stage.task) or not _takes(technique, stage, CAUSAL):
        return stage
    parameter = next(stage.model.parameters())
    return make_stage(stage.name, str(parameter.device), parameter.dtype, CAUSAL)


def _takes(technique: Technique, stage: Stage, task: str) -> bool:
    """Whether peft makes a config of the technique for a task."""
    try:
        _config(technique, stage, task)
    except Exception:  # whatever the library raises; what it says is kept when the model is made
        return False
    return True


def _same(technique: Technique, own: Any, theirs: Any) -> None:
    """Raises PeftrefError `peer-refuses` where the config runs and makes another technique of it, which trains something else."""
    refused = peer_of(technique).refused
    if refused and sum(one.numel() for one in _trained(own)) != sum(one.numel() for one in _trained(theirs)):
        raise fail("peer-refuses", refused)


def _config(technique: Technique, stage: Stage, task: str | None) -> Any:
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType, TaskType

    timed = {name: technique.settings.get(str(value), value) for name, value in peer_of(technique).timed.items()}
    fields = config(technique, stage.host) | timed
    kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(fields.pop("peft_type"))]
    return kind(task_type=TaskType(task) if task else None, **fields)


def _theirs(technique: Technique, stage: Stage) -> Any:
    from peft import get_peft_model

    model: Any = get_peft_model(copy.deepcopy(stage.model), _config(technique, stage, stage.task))
    for name, parameter in model.named_parameters():
        if any(name == f"base_model.model.{own}" for own in stage.also):
            parameter.requires_grad_(True)
    return model


def _trained(model: Any) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _keep(path: str | None, place: object, records: Sequence[object]) -> None:
    if path:
        write_whole(Path(path), json.dumps({"environment": place, "records": records}, indent=1).encode(), replace=True)


def main() -> None:
    """Measures and prints; `--json` keeps the records with versions and hardware, and goes on where it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=main.__doc__)
    parser.add_argument("--host", action="append", choices=[*PLANS], help="default: bert-base and llama-4x512")
    parser.add_argument("--technique", action="append", help="default: all that peft has")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=120.0, help="at most, for one technique")
    parser.add_argument("--warm-up", type=int, default=2, help="steps that are not counted")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device")
    parser.add_argument("--compile", action="store_true", help="all models by torch.compile")
    parser.add_argument("--autocast", action="store_true", help="all models under autocast in bfloat16")
    parser.add_argument("--json", help="file for the records; those that it has already are not measured again")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = pick_device(given.device)
    place = environment(device)
    records = json.loads(Path(given.json).read_text())["records"] if given.json and Path(given.json).exists() else []
    done = {(record["host"], record["technique"]) for record in records}
    effort = Effort(given.rounds, given.seconds, given.warm_up, given.compile, given.autocast)
    for name in given.host or ["bert-base", "llama-4x512"]:
        chosen = [load(one) for one in given.technique or known() if (name, one) not in done]
        if not chosen:
            continue
        try:
            for record in measure(make_stage(name, device, getattr(torch, given.dtype)), chosen, effort):
                records.append(record)
                _keep(given.json, place, records)
        except KeyboardInterrupt:
            print("interrupted; what was measured until then:", file=sys.stderr)
            break
    from benchmarks.peers_table import peers_table
    from peftref.report.forms import to_markdown

    print(to_markdown(peers_table(records)))
    print(json.dumps(place))


if __name__ == "__main__":
    main()
