"""Offsets in a YAML text's value -> line and column of the file."""

from __future__ import annotations

from dataclasses import dataclass

from peftref.core.problem import Place
from peftref.language.parse import Locate

_LONG_ESCAPE = {"x": 2, "u": 4, "U": 8}


@dataclass(frozen=True, slots=True)
class Text:
    """A stretch of a file, lines and columns from 0, end excluded; for a scalar its value and style.

    style: `'`, `"`, `|`, `>`, or nothing for a plain one.
    """

    line: int
    column: int
    end_line: int
    end_column: int
    value: str | None
    style: str

    @property
    def exact(self) -> bool:
        """Whether every offset in the value has a place of its own."""
        return self.value is not None and (self.style == "|" or (self.style != ">" and self.line == self.end_line))


def locator(span: Text, source: str, lines: tuple[str, ...]) -> Locate:
    """A function from start and end offset in a scalar's value to a place, the beginning where columns are lost.

    >>> span = Text(0, 3, 0, 8, "x + y", "")
    >>> locator(span, "mine.yaml", ("a: x + y",))(4, 5).column
    8
    """
    value = span.value or ""
    points = _points(span, value, lines) if span.exact else []

    def locate(start: int, end: int) -> Place:
        if not points:
            text = lines[span.line] if span.line < len(lines) else ""
            return Place(source, span.line + 1, span.column + 1, 1, text.replace("\t", " "))
        start = min(max(start, 0), len(points) - 1)
        end = min(max(end, start + 1), len(points) - 1)
        (line, column), (last_line, last_column) = points[start], points[end]
        text = lines[line] if line < len(lines) else ""
        stop = last_column if last_line == line else len(text)
        return Place(source, line + 1, column + 1, max(1, stop - column), text.replace("\t", " "))

    return locate


def _points(span: Text, value: str, lines: tuple[str, ...]) -> list[tuple[int, int]]:
    """Line and column, from 0, of every character of the value, and of its end."""
    if span.style == "|":
        return _block(span, value, lines)
    text = lines[span.line]
    if span.style == "":
        return [(span.line, span.column + offset) for offset in range(len(value) + 1)]
    # A quoted text may carry a tag or an anchor in front: those are refused, so it begins with its quote.
    at, columns = span.column + 1, []
    for _ in value:
        columns.append(at)
        at += _width(text, at, span.style)
    return [(span.line, column) for column in [*columns, at]]


def _width(text: str, at: int, style: str) -> int:
    """How many characters of the file make the one character of the value at a column."""
    if style == "'":
        return 2 if text[at] == "'" else 1
    if text[at] != "\\":
        return 1
    return 2 + _LONG_ESCAPE.get(text[at + 1], 0)


def _block(span: Text, value: str, lines: tuple[str, ...]) -> list[tuple[int, int]]:
    points: list[tuple[int, int]] = []
    for number, content in enumerate(value.split("\n")):
        line = span.line + 1 + number
        raw = lines[line] if line < len(lines) else ""
        indent = max(0, len(raw) - len(content)) if content else min(len(raw), span.column)
        points += [(line, indent + offset) for offset in range(len(content) + 1)]
    return points
