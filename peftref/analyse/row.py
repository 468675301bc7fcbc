"""A row of the typology: what a technique is called, and a cell for each of its properties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PEFT_REF = ("intra", "inter", "adapted", "sharing", "input", "form", "insertions", "integration", "workspace")
"""The nine properties of PEFT-Ref (arXiv 2304.12410), in the order of its table."""


@dataclass(frozen=True)
class Cell:
    """A value, and what it was read off from."""

    value: str
    reason: str


@dataclass(frozen=True)
class Row:
    """The typology of one technique: a cell for each property, by name; the nine of PEFT-Ref come first."""

    name: str
    title: str
    year: int | None
    arxiv: str | None
    about: str
    cells: Mapping[str, Cell]

    def __getitem__(self, name: str) -> str:
        return self.cells[name].value
