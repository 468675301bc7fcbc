"""What a saved module is, as text for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from peftref.design.insertion import insertions
from peftref.exchange.checkpoint import Outline
from peftref.modules.state.contents import Contents, Stored
from peftref.report.technique import technique_lines

LEAVES = "leaves."
KINDS = {"host": "of the host itself", "head": "of a task head", "procedures": "remembered by procedures"}


def saved_lines(contents: Contents) -> Iterator[str]:
    """A saved module: what it does, where it stands, what it was trained on and how, its files."""
    record = contents.record
    yield from technique_lines(contents.technique)
    yield ""
    yield "sites"
    for leaf, names in _by_leaf(contents).items():
        yield f"  {leaf}: {_ranges(names)}"
    yield ""
    yield "numbers"
    yield from (f"  {text}" for text in _numbers(contents))
    yield ""
    host = record.host
    yield f"host: {host.name} ({host.model_type}), {host.parameters:,} parameters"
    yield f"  architecture {host.architecture}, weights {host.weights or 'unknown: it had none yet'}"
    yield f"seed: {record.seed}"
    told = ", ".join(f"{name} = {value}" for name, value in record.training.items())
    yield f"training: {told or 'nothing was noted'}"
    yield "versions: " + ", ".join(f"{name} {value}" for name, value in record.versions.items())
    yield ""
    yield f"files, format {record.format}, as they were written"
    yield from _files(contents.files)


def saved_json(contents: Contents) -> dict[str, Any]:
    """The same, for programs."""
    record = contents.record
    return {
        "technique": contents.technique.name,
        "title": contents.technique.title,
        "settings": dict(contents.technique.settings),
        "insertions": [{"at": list(one.at), "equation": one.equation} for one in contents.technique.insert],
        "sites": {leaf: sorted(names) for leaf, names in _by_leaf(contents).items()},
        "numbers": _counted(contents),
        "tensors": _shapes(contents.tensors),
        "host": record.host.model_dump(),
        "seed": record.seed,
        "made_from_seed": dict(record.made),
        "training": dict(record.training),
        "versions": dict(record.versions),
        "format": record.format,
        "files": dict(contents.files),
    }


def outline_lines(outline: Outline) -> Iterator[str]:
    """A checkpoint of another library: its type, its host, its fields, its files."""
    yield f"a checkpoint of {outline.form.library}: {_type(outline)}"
    if host := _host(outline):
        yield f"host: {host}"
    yield "fields"
    for name, value in outline.fields.items():
        if value not in (None, False, [], {}, ""):
            yield f"  {name}: {value}"
    stored = outline.stored
    yield f"tensors: {len(stored)}, {sum(each.numel for each in stored.values()):,} numbers"
    yield "files"
    yield from _files(outline.files)
    yield f"peftref import {outline.folder} --out NEW makes a module of it"


def outline_json(outline: Outline) -> dict[str, Any]:
    """The same, for programs."""
    return {
        "library": outline.form.library,
        "type": _type(outline),
        "host": _host(outline),
        "fields": dict(outline.fields),
        "tensors": _shapes(outline.stored),
        "files": dict(outline.files),
    }


def _by_leaf(contents: Contents) -> dict[str, list[str]]:
    """For every leaf the places where a copy stands, `design` where all sites share one."""
    names = [name.removeprefix(LEAVES) for name in contents.tensors if name.startswith(LEAVES)]
    found: dict[str, list[str]] = {}
    for name in sorted([*names, *contents.record.made]):
        place, _, leaf = name.rpartition(".")
        found.setdefault(leaf, []).append(place or "every site")
    return found


def _ranges(names: list[str]) -> str:
    """Names with their layers counted together: `decoder.{0-31}.attention.query`."""
    layers: dict[tuple[str, str], list[int]] = {}
    whole: list[str] = []
    for name in names:
        parts = name.split(".")
        at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        if at is None:
            whole.append(name)
        else:
            layers.setdefault((".".join(parts[:at]), ".".join(parts[at + 1 :])), []).append(int(parts[at]))
    found = [
        ".".join(part for part in (before, f"{{{_runs(numbers)}}}", after) if part)
        for (before, after), numbers in layers.items()
    ]
    return ", ".join([*whole, *found])


def _runs(numbers: Iterable[int]) -> str:
    """Whole numbers, those that follow one another as one range.

    >>> _runs([0, 1, 2, 5])
    '0-2, 5'
    """
    runs = [list(run) for _, run in groupby(enumerate(sorted(numbers)), key=lambda each: each[1] - each[0])]
    return ", ".join(f"{run[0][1]}-{run[-1][1]}" if len(run) > 1 else f"{run[0][1]}" for run in runs)


def _counted(contents: Contents) -> dict[str, int]:
    """How many numbers are stored, by what they are."""
    frozen = {leaf.name for one in insertions(contents.technique) for leaf in one.leaves.values() if not leaf.trainable}
    found = {"trained": 0, "frozen": 0, **dict.fromkeys(KINDS, 0)}
    for name, stored in contents.tensors.items():
        kind = name.split(".")[0]
        if kind in KINDS:
            found[kind] += stored.numel
        else:
            found["frozen" if name.rpartition(".")[2] in frozen else "trained"] += stored.numel
    return found


def _numbers(contents: Contents) -> Iterator[str]:
    found = _counted(contents)
    yield f"{found['trained']:,} trained" + (f", {found['frozen']:,} frozen" if found["frozen"] else "")
    yield from (f"{found[kind]:,} {about}" for kind, about in KINDS.items() if found[kind])
    if made := contents.record.made:
        yield f"made again from the seed, and not stored: {len(made)} ({', '.join(sorted(made)[:4])}{' ...' if len(made) > 4 else ''})"


def _shapes(tensors: Mapping[str, Stored]) -> dict[str, dict[str, Any]]:
    return {name: {"dtype": each.dtype, "shape": list(each.shape)} for name, each in tensors.items()}


def _files(files: Mapping[str, int]) -> Iterator[str]:
    return (f"  {name}: {size:,} bytes" for name, size in files.items())


def _type(outline: Outline) -> str:
    named = outline.fields[outline.form.named]
    return str(named if isinstance(named, str) else named.get("architecture"))


def _host(outline: Outline) -> str | None:
    return outline.fields.get("base_model_name_or_path") or outline.fields.get("model_name") or None
