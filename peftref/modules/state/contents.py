"""What a saved module is, read and checked without its tensors. No torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from peftref.core.problem import fail
from peftref.design.load import load
from peftref.design.older import self_attention_alone
from peftref.design.technique import Technique
from peftref.modules.state.record import RECORD, TECHNIQUE, TENSORS, Record, read_record

LONGEST = 100_000_000
"""Bytes of a header of safetensors, at most: its own bound."""


@dataclass(frozen=True)
class Stored:
    """One tensor in a file: its type as safetensors names it, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Contents:
    """A saved module whose files are what was written. tensors: by name; files: sizes in bytes, by name."""

    technique: Technique
    record: Record
    tensors: Mapping[str, Stored]
    files: Mapping[str, int]


def read_contents(folder: str | Path) -> Contents:
    """Reads what a saved module is, and checks every file.

    Raises PeftrefError `saved-missing` where a file is not there, `saved-damaged` where one is not what was written,
    `saved-version` for a format of another time, and whatever is wrong with the technique.
    """
    place = Path(folder)
    missing = [name for name in (TECHNIQUE, TENSORS, RECORD) if not (place / name).is_file()]
    if missing:
        raise fail("saved-missing", f"{place} is no saved module: it has no {', '.join(missing)}")
    record = read_record(place / RECORD)
    for name, digest in ((TECHNIQUE, record.technique_digest), (TENSORS, record.digest)):
        with (place / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                text = f"{place / name} is not what was written: its digest differs"
                raise fail("saved-damaged", text, hint="copy the folder again")
    technique = load(place / TECHNIQUE)
    if record.format < 3:
        technique = self_attention_alone(technique)
    if technique.name != record.technique:
        text = f"{place / TECHNIQUE} is {technique.name}, and {RECORD} is of {record.technique}"
        raise fail("saved-damaged", text, hint="copy the folder again")
    files = {name: (place / name).stat().st_size for name in (TECHNIQUE, TENSORS, RECORD)}
    return Contents(technique, record, read_header(place / TENSORS), files)


def read_header(path: Path) -> dict[str, Stored]:
    """The names, types and shapes of the tensors in a file of safetensors; raises PeftrefError `saved-damaged`."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(LONGEST, path.stat().st_size):
                raise ValueError
            found = json.loads(file.read(length))
        return {
            str(name): Stored(str(each["dtype"]), tuple(int(size) for size in each["shape"]))
            for name, each in found.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise fail("saved-damaged", f"{path} cannot be read: it has no header of safetensors") from None
