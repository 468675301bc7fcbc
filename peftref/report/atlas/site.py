"""The whole site as files, and the folder that it is written to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peftref.analyse.diff import near
from peftref.analyse.typology import typology
from peftref.core.problem import PeftrefError, Problem, fail
from peftref.design.technique import Technique
from peftref.design.write import whole_folder
from peftref.host.presets import load_preset, preset_names
from peftref.report.atlas.compare_page import compare_page
from peftref.report.atlas.diagram import diagram
from peftref.report.atlas.entry import Entry, entry
from peftref.report.atlas.formulas import equations, leaves
from peftref.report.atlas.html import GENERATOR
from peftref.report.atlas.numbers import architecture_numbers, host_numbers, technique_numbers
from peftref.report.atlas.palette import ASSETS, style_with_variables
from peftref.report.atlas.technique_page import technique_page
from peftref.report.atlas.trees import diff_data
from peftref.report.atlas.typology_page import typology_page
from peftref.report.typology import LABELS

RELATIVES = 5
"""How many relatives a page names."""


def atlas_files(chosen: Sequence[Technique], tick: Callable[[str], None] = lambda name: None) -> dict[str, bytes]:
    """The files of the atlas of some techniques, by their paths; equal techniques give equal bytes.

    tick: called with the name of each technique that is done. Raises PeftrefError `name-taken` where a name stands twice, and
    the problems of the techniques.

    >>> from peftref.design.load import load
    >>> files = atlas_files([load("lora"), load("ia3")])
    >>> "techniques/lora.html" in files, "compare.html" in files
    (True, True)
    """
    _distinct(chosen)
    rows = typology(chosen)
    titles = {row.name: row.title for row in rows}
    files: dict[str, str] = {}
    entries: list[Entry] = []
    for technique, row in zip(chosen, rows, strict=True):
        made = entry(technique, row, near(row, rows, RELATIVES))
        entries.append(made)
        files[f"techniques/{made.name}.html"] = technique_page(made, titles)
        files[f"techniques/{made.name}.svg"] = diagram(technique)
        files[f"data/{made.name}.js"] = _script("technique", _data(made))
        tick(made.name)
    files["index.html"] = typology_page(entries)
    files["compare.html"] = compare_page(entries)
    files["data/hosts.js"] = _script(
        "hosts", {**architecture_numbers(), "hosts": {name: host_numbers(load_preset(name)) for name in preset_names()}}
    )
    files["data/names.js"] = _script("names", {"titles": titles, "labels": LABELS})
    files["assets/diagram.css"] = style_with_variables()
    for path in sorted(ASSETS.iterdir()):
        files.setdefault(f"assets/{path.name}", path.read_text(encoding="utf-8"))
    return {name: files[name].encode() for name in sorted(files)}


def write_atlas(files: Mapping[str, bytes], folder: Path) -> Path:
    """Writes the site whole or not at all; an atlas that stands there is replaced.

    Raises PeftrefError `save-place` where the folder holds something else, or cannot be written.
    """
    check_place(folder)
    try:
        with whole_folder(folder.resolve()) as made:
            for name, content in files.items():
                path = made / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
    except OSError as error:
        raise fail("save-place", f"{folder} cannot be written: {error.strerror or error}") from None
    return folder / "index.html"


def check_place(folder: Path) -> None:
    """Raises PeftrefError `save-place` where a folder holds something else than an atlas, or the current folder is in it."""
    if Path.cwd().is_relative_to(folder.resolve()):
        text = f"{folder} is the current folder, or holds it, and cannot be replaced"
        raise fail("save-place", text, hint="give a new folder")
    if folder.exists() and not _ours(folder):
        raise fail("save-place", f"{folder} holds something else than an atlas", hint="give a new folder")


def _ours(folder: Path) -> bool:
    """Whether a folder is empty, or an atlas."""
    if not folder.is_dir():
        return False
    index = folder / "index.html"
    if index.is_file():
        return f'content="{GENERATOR}"' in index.read_text(encoding="utf-8", errors="replace")[:2000]
    return not any(folder.iterdir())


def _distinct(chosen: Sequence[Technique]) -> None:
    seen: set[str] = set()
    problems = []
    for technique in chosen:
        if technique.name in seen:
            text = f"two techniques of the atlas are named {technique.name}"
            problems.append(Problem("name-taken", text, hint="give one of them another name"))
        seen.add(technique.name)
    if problems:
        raise PeftrefError(problems)


def _data(made: Entry) -> dict[str, Any]:
    technique = made.technique
    return {
        "name": made.name,
        "title": technique.title,
        "about": technique.about,
        "cells": {name: asdict(cell) for name, cell in made.row.cells.items()},
        "equation": equations(technique),
        "leaves": leaves(technique),
        "diagram": diagram(technique, alone=False),
        "diff": diff_data(technique),
        "count": technique_numbers(technique),
    }


def _script(what: str, data: Mapping[str, Any]) -> str:
    """Data as a script, which pages can load from files: there is no server to ask."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"peftref.put({json.dumps(what)}, {text});\n"
