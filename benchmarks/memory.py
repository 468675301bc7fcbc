"""How much memory and time it takes to attach, merge, unmerge, save, export and read a module, beside peft.

`python -m benchmarks.memory` prints a table; each row is a process of its own, which makes the host, puts the module on it, and
then does the one thing that is measured. The peak is what the process held at most beyond what it held before (VmHWM of Linux,
which is set back first).
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peftref.report.forms import to_markdown
from peftref.report.table import Column, Table

OURS = ("attach", "merge", "merge keep=False", "unmerge", "detach", "save", "restore", "export", "import")
PEFT = ("attach", "merge keep=False", "save", "restore")


def main() -> None:
    """Peaks and times of what is done with a module of rank 16 at every linear map of a llama, beside peft."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=main.__doc__)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dtype", default="float32", help="float32 or bfloat16")
    parser.add_argument("--technique", default="lora_all:r=16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("LIBRARY", "ACTION"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        library, action = given.one
        print(json.dumps(_one(library, action, given)))
        return
    cells: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(given.rounds):
        for library, actions in (("peftref", OURS), ("peft", PEFT)):
            for action in actions:
                command = [sys.executable, "-m", "benchmarks.memory", *sys.argv[1:], "--one", library, action]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                cells.setdefault((action, library), []).append(json.loads(done.stdout.splitlines()[-1]))
    print(to_markdown(_table(cells)), end="")


def _table(cells: dict[tuple[str, str], list[dict[str, float]]]) -> Table:
    columns = [Column("action", "action")]
    for library in ("peftref", "peft"):
        columns.append(Column(f"{library}_peak", f"{library}: peak, MB"))
        columns.append(Column(f"{library}_time", f"{library}: seconds"))
    rows = []
    for action in OURS:
        row: dict[str, Any] = {"action": action}
        for library in ("peftref", "peft"):
            if found := cells.get((action, library)):
                row[f"{library}_peak"] = f"{max(each['peak'] for each in found) / 1e6:.0f}"
                row[f"{library}_time"] = f"{statistics.median(each['seconds'] for each in found):.2f}"
        rows.append(row)
    host = next(iter(cells.values()))[0]["host"] / 1e6
    note = f"host: {host:.0f} MB; peak: beyond what was held before, largest of all rounds; seconds: median"
    return Table(tuple(columns), tuple(rows), notes=(note,))


def _one(library: str, action: str, given: argparse.Namespace) -> dict[str, float]:
    """The peak in bytes and the seconds of one action."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=given.width, intermediate_size=given.width * 43 // 16, num_hidden_layers=given.layers,
        num_attention_heads=16, num_key_value_heads=16, vocab_size=8000,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(getattr(torch, given.dtype)).eval()
    host = sum(each.numel() * each.element_size() for each in model.parameters())
    folder = Path(tempfile.mkdtemp())
    try:
        act = (_ours if library == "peftref" else _peft)(model, action, folder, given.technique)
        Path("/proc/self/clear_refs").write_text("5")
        before, begun = _memory("VmRSS"), time.perf_counter()
        kept = act()
        seconds = time.perf_counter() - begun
        del kept
        return {"peak": max(0, _memory("VmHWM") - before), "seconds": seconds, "host": host}
    finally:
        shutil.rmtree(folder)


def _ours(model: Any, action: str, folder: Path, technique: str) -> Callable[[], Any]:
    import peftref
    from peftref.design.given import given

    chosen = given(technique)
    if action == "attach":
        return lambda: peftref.attach(model, chosen)
    attached = peftref.attach(model, chosen)
    _shake(attached.parameters())
    if action == "unmerge":
        attached.merge()
    if action == "restore":
        attached.save(folder / "module")
        attached.detach()
    if action == "import":
        peftref.write_peft(attached, folder / "checkpoint")
        attached.detach()
    actions: dict[str, Callable[[], Any]] = {
        "merge": attached.merge,
        "merge keep=False": lambda: attached.merge(keep=False),
        "unmerge": attached.unmerge,
        "detach": attached.detach,
        "save": lambda: attached.save(folder / "module"),
        "restore": lambda: peftref.restore(model, folder / "module"),
        "export": lambda: peftref.write_peft(attached, folder / "checkpoint"),
        "import": lambda: peftref.read_peft(folder / "checkpoint", model),
    }
    return actions[action]


def _peft(model: Any, action: str, folder: Path, technique: str) -> Callable[[], Any]:
    import peft

    config = peft.LoraConfig(r=16, lora_alpha=16, target_modules="all-linear")
    if action == "attach":
        return lambda: peft.get_peft_model(model, config)
    wrapped: Any = peft.get_peft_model(model, config)
    _shake(each for each in wrapped.parameters() if each.requires_grad)
    if action == "restore":
        wrapped.save_pretrained(folder / "module")
        bare = wrapped.unload()
        return lambda: peft.PeftModel.from_pretrained(bare, str(folder / "module"))
    if action == "save":
        return lambda: wrapped.save_pretrained(folder / "module")
    return lambda: wrapped.merge_and_unload()


def _shake(parameters: Any) -> None:
    import torch

    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn_like(parameter), alpha=0.01)


def _memory(field: str) -> int:
    """Bytes of this process by the field's name in /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


if __name__ == "__main__":
    main()
