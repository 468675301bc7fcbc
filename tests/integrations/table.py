"""The table of training: `python -m tests.integrations` tries every technique on every host in every way, and writes `docs/training.md`.

The suite tries each technique and each host in each way, and not all three together; no cell of the table is typed by hand.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import platform
import tempfile
import warnings
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path

import pytest
import torch

from peftref.core.problem import PeftrefError
from tests.integrations import pair
from tests.integrations.common import CAUSAL, HOSTS, TECHNIQUES, Trained, Way, reference

TARGET = Path(__file__).resolve().parents[2] / "docs" / "training.md"
FILES = ("loop", "trainer", "trl", "precision", "graphs", "files", "few_bits")
LIBRARIES = ("peftref", "torch", "transformers", "accelerate", "trl", "torchao", "bitsandbytes")
Cell = tuple[str, str, str]
"""A way, a technique and a host."""


def ways() -> dict[str, tuple[Way, str]]:
    """Every way of training within one process, and what it is, in the words of its test."""
    found = {}
    for name in FILES:
        made: dict[str, Way] = importlib.import_module(f"tests.integrations.test_{name}").WAYS
        found |= {way: (check, (check.__doc__ or "").strip()) for way, check in made.items()}
    return found


def families(way: str) -> tuple[str, ...]:
    """The hosts for which a way is meant."""
    return CAUSAL if way.startswith("TRL") else tuple(HOSTS)


def tried(cell: Cell) -> tuple[Cell, str]:
    """What a cell gave: `works`, or why not."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    way, technique, family = cell
    with tempfile.TemporaryDirectory() as folder:
        try:
            ways()[way][0](technique, family, Path(folder))
        except pytest.skip.Exception as skipped:
            return cell, f"not tried: {skipped}"
        except PeftrefError as error:
            return cell, f"`{error.problems[0].code}`: {error.problems[0].message}"
        except Exception as error:
            return cell, f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return cell, "works"


def in_pairs(cases: list[Cell], folder: Path) -> Iterable[tuple[Cell, str]]:
    """What every cell of the ways with two processes gave."""
    for case, found in (pair.train(cases, folder) if cases else {}).items():
        text = "works"
        if isinstance(found, Trained):
            try:
                reference(*case[1:]).near(found)
            except AssertionError as error:
                text = f"AssertionError: {next(iter(str(error).splitlines()), '')}"
        else:
            text = next(iter(found.splitlines()), "")
        yield case, text


def table(found: dict[Cell, str]) -> str:
    """The page: how each way is tried, a row for each technique and host, and what does not work."""
    known = {way: what for way, (_, what) in ways().items()}
    known |= {way: (check.__doc__ or "").strip() for way, check in pair.WAYS.items()}
    names = list(known)
    reasons = list(dict.fromkeys(text for text in found.values() if text != "works"))
    lines = ["# Training", "", _intro(), "", "## Ways", "", "| | way | what holds |", "| --- | --- | --- |"]
    lines += [f"| {i} | {name} | {known[name]} |" for i, name in enumerate(names, 1)]
    head = " | ".join(str(i) for i in range(1, len(names) + 1))
    lines += [
        "",
        "## Techniques and hosts",
        "",
        "✓ works, – not meant for this host, a letter: see below; empty: not run.",
        "",
    ]
    lines += [f"| technique | host | {head} |", "| --- | --- |" + " --- |" * len(names)]
    for technique, family in product(TECHNIQUES, HOSTS):
        cells = [_mark(found.get((way, technique, family)), reasons, family in families(way)) for way in names]
        lines.append(f"| {technique} | {family} | {' | '.join(cells)} |")
    if reasons:
        lines += ["", "## What does not work here", ""]
        lines += [f"- **{_letter(i)}** {reason}" for i, reason in enumerate(reasons)]
    return "\n".join([*lines, "", NOTES])


def _mark(text: str | None, reasons: list[str], meant: bool) -> str:
    if text is None:
        return "" if meant else "–"
    return "✓" if text == "works" else f"**{_letter(reasons.index(text))}**"


def _letter(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else f"r{number}"


def _intro() -> str:
    """What was run, with which versions."""
    known = []
    for name in LIBRARIES:
        try:
            known.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            known.append(f"{name} not installed")
    return (
        "Every way in which hosts are trained, with every technique below on a tiny host of each kind; made by\n"
        "`python -m tests.integrations`. A bare loop in one process is the measure: the same losses and the same trained values\n"
        "come out of every other way (relative 1e-4 in single precision; 5e-4 where losses are read from logs), resumed training gives the bits of\n"
        "uninterrupted training, and the host's own weights are the same bits afterwards.\n\n"
        f"Versions: {', '.join(known)}, Python {platform.python_version()}, CPU."
    )


NOTES = """## Notes

- **Trainer and TRL**: `callbacks=[peftref.ModuleCallback(attached)]` puts a saved module into every checkpoint, beside the files of
  the host alone, takes it at `resume_from_checkpoint`, and brings back the best one with `load_best_model_at_end`. A checkpoint that
  lies outside the output folder is named: `ModuleCallback(attached, resume=FOLDER)`. The optimizer's state is the trainer's own file.
- **Losses over accumulated batches** are what transformers makes of the host alone: it leaves the division by the number of labels to
  hosts whose `forward` takes further arguments, and some of these (bert, t5) do not divide; gpt2's is counted over one label too many.
- **FSDP2**: `fully_shard` of torch on the layers and on the host, after attaching. accelerate shards on accelerators only, so its own
  wrapping was not run here. `attached.save` and `peftref.refill` are called by all processes then.
- **Reentrant checkpointing** drops the gradients of layers that no gradient enters; what enters a stack is made to take one.
  A technique that carries a value from layer to layer refuses it (`checkpoint-reentrant`).
- **torch.compile**: none of these techniques breaks a graph, and none of the catalog does on a llama. A host alone may (gpt2 warns
  within its loss), and then it has the same breaks with a technique. Where layers are compiled one by one (`layer.compile()`), or a
  break leaves one graph to each, alike layers share one; a technique that stands in some layers has one for each kind of layer.
- **torch.export**: what does not merge is exported with the host as it is.
- **Hosts in few bits** are not merged (`few-bits`). `transformers.Trainer` refuses them unless peft wraps them; a loop of one's own
  and accelerate train them.
- **fp16** with a scaler of gradients needs a GPU: `pytest -m gpu tests/integrations`.
- `save_pretrained` leaves out what is attached to the model that is saved. What is attached to a part of it is in its files: attach to
  the model that you save.
"""


def read(path: Path | None) -> dict[Cell, str]:
    """What was tried before, from the file of records."""
    if path is None or not path.is_file():
        return {}
    return {(way, technique, family): text for way, technique, family, text in json.loads(path.read_text("utf-8"))}


def main() -> None:
    """Tries everything and writes the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.integrations", description=__doc__)
    parser.add_argument("--out", type=Path, default=TARGET, help="the page to write")
    parser.add_argument("--processes", type=int, default=1, help="how many cells at a time")
    parser.add_argument("--records", type=Path, help="keeps what each cell gave, and goes on from there")
    parser.add_argument("--way", action="append", help="only this way of training")
    given = parser.parse_args()
    found = read(given.records)

    def keep(cell: Cell, text: str) -> None:
        found[cell] = text
        if text != "works":
            print(*cell, text, sep=": ", flush=True)
        if given.records is not None:
            given.records.write_text(json.dumps([[*each, why] for each, why in found.items()]), encoding="utf-8")

    cells = [(way, *each) for way in ways() for each in product(TECHNIQUES, families(way))]
    left = [cell for cell in cells if cell not in found and (given.way is None or cell[0] in given.way)]
    if left:
        with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
            for cell, text in pool.imap(tried, left):
                keep(cell, text)
    both = [cell for cell in product(pair.WAYS, TECHNIQUES, HOSTS) if given.way is None or cell[0] in given.way]
    with tempfile.TemporaryDirectory() as folder:
        for cell, text in in_pairs([cell for cell in both if cell not in found], Path(folder)):
            keep(cell, text)
    order = [*cells, *product(pair.WAYS, TECHNIQUES, HOSTS)]
    found = {cell: found[cell] for cell in order if cell in found}
    given.out.write_text(table(found), encoding="utf-8")
    print(f"{sum(text == 'works' for text in found.values())} of {len(found)} work; written to {given.out}")
