"""What an attached technique costs while it is disabled: forward passes of the host with it and without, in turn in one process.

`python -m benchmarks.disabled` prints a table.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.stages import PLANS, Stage, stage
from peftref.modules.attach import attach
from peftref.study.machine import environment, pick_device
from peftref.study.timing import contender, inference_times


def measure(stage: Stage, names: Sequence[str], *, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """One record per technique: seconds of a forward pass of the host alone and with the technique attached and disabled."""
    rows: list[dict[str, Any]] = []
    for name in names:
        alone: Any = copy.deepcopy(stage.model)
        with_it: Any = copy.deepcopy(stage.model)
        attach(with_it, name, batch=stage.samples, length=stage.length, host=stage.host).disable()
        racing = [contender("alone", alone, []), contender("attached", with_it, [])]
        times = inference_times(racing, [stage.batch], rounds=rounds, seconds=seconds)
        row: dict[str, Any] = {"host": stage.name, "technique": name, "rounds": times["attached"].rounds}
        row |= {one: times[one].median for one in ("alone", "attached")}
        rows.append(row | {"ratio": times["attached"].ratio["alone"]})
    return rows


def main() -> None:
    """Measures and prints, with versions and hardware."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.disabled", description=main.__doc__)
    parser.add_argument("technique", nargs="+")
    parser.add_argument("--host", action="append", choices=[*PLANS], help="default: bert-base and llama-4x512")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=20.0, help="at most, for one technique")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = pick_device(given.device)
    rows: list[dict[str, Any]] = []
    for name in given.host or ["bert-base", "llama-4x512"]:
        found = stage(name, device, getattr(torch, given.dtype))
        rows += measure(found, given.technique, rounds=given.rounds, seconds=given.seconds)
    from benchmarks.peers_table import disabled_table
    from peftref.report.forms import to_markdown

    print(to_markdown(disabled_table(rows)))
    print(json.dumps(environment(device)))


if __name__ == "__main__":
    main()
