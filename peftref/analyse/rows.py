"""The rows of the whole catalog, remembered between runs.

A row is a pure function of a technique's file and of this package (ops of other packages aside, whose rows are not remembered),
so what was computed once for the same bytes by the same package holds. The memory is one JSON file in the cache folder; without it, or with a damaged one, rows are computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftref.analyse.row import Cell, Row
from peftref.core.data import cache_folder
from peftref.core.problem import PeftrefError
from peftref.design.catalog import technique_files

if TYPE_CHECKING:
    from peftref.design.technique import Technique

PACKAGE = Path(__file__).resolve().parents[1]


def catalog_rows() -> tuple[Row, ...]:
    """The typology row of every technique in all catalogs, by name; those of files seen before are not computed again.

    Raises PeftrefError with the problems of all files, as `techniques` does.

    >>> {row.name: row["intra"] for row in catalog_rows()}["houlsby"]
    'dense: non-linear MLP'
    """
    files = technique_files()
    version = _version()
    keys = {name: _key(version, name, path) for name, path in files.items()}
    known: Mapping[str, Row] = _remembered()
    if not all(key in known for key in keys.values()):
        known = _computed(keys, known)
    return tuple(known[key] for key in keys.values())


def _computed(keys: Mapping[str, str], known: Mapping[str, Row]) -> Mapping[str, Row]:
    from peftref.analyse.typology import typology
    from peftref.design.load import techniques

    missing = [each for each in techniques() if keys[each.name] not in known]
    rows = {**known, **{keys[row.name]: row for row in typology(missing)}}
    others = {keys[each.name] for each in missing if _reads_others(each)}
    _remember({key: rows[key] for key in keys.values() if key not in others})
    return rows


def _reads_others(technique: Technique) -> bool:
    """Whether a technique is written in ops of other packages, which may change while this one stays."""
    from peftref.design.insertion import insertions
    from peftref.language.expr import Call, walk
    from peftref.language.ops import OPS

    values = [
        each
        for insertion in insertions(technique)
        for effect in insertion.told.values()
        for each in effect.values.values()
    ]
    return not {node.op for value in values for node in walk(value) if isinstance(node, Call)} <= {
        op.name for op in OPS
    }


def _version() -> str:
    """A digest of this package's files, by name, size and time of the last change."""
    found = []
    for folder, _, names in os.walk(PACKAGE):
        for name in names:
            if name.endswith(".py"):
                state = os.stat(os.path.join(folder, name))
                found.append((folder, name, state.st_size, state.st_mtime_ns))
    return hashlib.sha256(repr(sorted(found)).encode()).hexdigest()


def _key(version: str, name: str, path: Path) -> str:
    with contextlib.suppress(OSError):  # what cannot be read is told where it is loaded
        return hashlib.sha256(b"\0".join([version.encode(), name.encode(), path.read_bytes()])).hexdigest()
    return name


def _file() -> Path:
    return cache_folder() / "typology.json"


def _remembered() -> dict[str, Row]:
    try:
        return {key: _row(plain) for key, plain in json.loads(_file().read_bytes()).items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _row(plain: dict[str, Any]) -> Row:
    return Row(**{**plain, "cells": {name: Cell(**cell) for name, cell in plain["cells"].items()}})


def _remember(rows: Mapping[str, Row]) -> None:
    from peftref.design.write import write_whole

    content = json.dumps({key: asdict(row) for key, row in rows.items()}).encode()
    with contextlib.suppress(PeftrefError):  # a cache that cannot be written is none
        write_whole(_file(), content, replace=True)
