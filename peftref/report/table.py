"""A table: columns, rows, and the text of each cell. How it is written is in `peftref.report.forms`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Column:
    """A column: the key of its values, its heading, its unit, and how numbers are written.

    digits: behind the point, None for as it is. better: which end is the better one, so that the best can be marked.
    code: the values are text of a program.
    """

    key: str
    label: str
    unit: str = ""
    digits: int | None = None
    better: Literal["high", "low"] | None = None
    code: bool = False

    @property
    def heading(self) -> str:
        """The heading with its unit."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label

    def text(self, value: Value) -> str:
        """A value as text; nothing where there is none.

        >>> Column("share", "share", "%", 2).text(0.26934), Column("n", "n").text(294912), Column("n", "n").text(None)
        ('0.27', '294,912', '')
        """
        if value is None:
            return ""
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, int):
            return f"{value:,}"
        if isinstance(value, float):
            return f"{value:,.{self.digits}f}" if self.digits is not None else f"{value:g}"
        return value


@dataclass(frozen=True)
class Table:
    """Columns and rows, with a title and notes below. marked: the rows that are best in a column, where more than the numbers decides."""

    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Value], ...]
    title: str = ""
    notes: tuple[str, ...] = ()
    marked: Mapping[str, frozenset[int]] = field(default_factory=dict)

    def cells(self) -> list[list[str]]:
        """Every row as texts."""
        return [[column.text(row.get(column.key)) for column in self.columns] for row in self.rows]

    def best(self, column: Column) -> set[int]:
        """The rows that hold the best value of a column; several where they are equal, none where no end is better."""
        if column.key in self.marked:
            return set(self.marked[column.key])
        values = {
            i: value
            for i, row in enumerate(self.rows)
            if isinstance(value := row.get(column.key), int | float) and not isinstance(value, bool)
        }
        if column.better is None or not values:
            return set()
        top = max(values.values()) if column.better == "high" else min(values.values())
        return {i for i, value in values.items() if value == top}

    def numeric(self, column: Column) -> bool:
        """Whether a column holds numbers, and is set to the right."""
        values = [value for row in self.rows if (value := row.get(column.key)) is not None]
        return bool(values) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def rows_of(items: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Value], ...]:
    """Rows from plain mappings."""
    return tuple(dict(item) for item in items)
