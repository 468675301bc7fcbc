"""A table for a terminal: as it is where it fits, else with its rows set as columns, as many beside one another as fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from peftref.report.fit import GAP, below_one_another, beside_one_another, widths, wrap
from peftref.report.table import Table

if TYPE_CHECKING:
    from rich.text import Text


@dataclass(frozen=True, slots=True)
class _Cell:
    text: str
    bold: bool = False


def to_rich(table: Table, width: int) -> Text:
    """The table for a terminal of a width; nothing is left out and no word is broken.

    In this order: rows as rows; rows as columns, in as many groups as it takes; each row as a block of lines. A line is wider than
    the terminal only where a single word is.
    """
    from rich.text import Text

    headings = [_Cell(column.heading) for column in table.columns]
    best = [table.best(column) for column in table.columns]
    rows = [
        [_Cell(text, i in marked) for text, marked in zip(cells, best, strict=True)]
        for i, cells in enumerate(table.cells())
    ]
    drawn = Text(no_wrap=True)
    if table.title:
        drawn.append("\n".join([*wrap(table.title, width), "", ""]), "italic")
    right = [table.numeric(column) for column in table.columns]
    if (sizes := _sizes([headings, *rows], width)) is not None:
        return _draw(drawn, [headings, *rows], sizes, right)
    numbers = 2 * sum(right) > len(right)
    names, texts = _texts(headings), [_texts(row) for row in rows]
    groups = beside_one_another(names, texts, width)
    for number, group in enumerate(groups):
        if number:
            drawn.append("\n")
        turned = [list(line) for line in zip(headings, *(rows[i] for i in group), strict=True)]
        if (sizes := _sizes(turned, width)) is not None:
            _draw(drawn, turned, sizes, [False, *(numbers for _ in group)])
        else:
            drawn.append("\n".join([*below_one_another(names, texts[group.start], width), ""]))
    return drawn


def _texts(cells: Sequence[_Cell]) -> list[str]:
    return [cell.text for cell in cells]


def _sizes(lines: Sequence[Sequence[_Cell]], width: int) -> tuple[int, ...] | None:
    return widths([_texts(column) for column in zip(*lines, strict=True)], width)


def _draw(drawn: Text, lines: Sequence[Sequence[_Cell]], sizes: Sequence[int], right: Sequence[bool]) -> Text:
    """Draws lines of cells, the first of them underlined. right: the columns that are set to the right."""
    from rich.text import Text

    for i, cells in enumerate(lines):
        wrapped = [wrap(cell.text, size) for cell, size in zip(cells, sizes, strict=True)]
        for parts in zip_longest(*wrapped, fillvalue=""):
            line = Text()
            for cell, part, size, to_right in zip(cells, parts, sizes, right, strict=True):
                padded = part.rjust(size) if to_right else part.ljust(size)
                line.append(padded, "bold" if cell.bold else "").append(" " * GAP)
            line.rstrip()
            drawn.append_text(line).append("\n")
        if i == 0:
            drawn.append("─" * (sum(sizes) + GAP * (len(sizes) - 1)) + "\n")
    return drawn
