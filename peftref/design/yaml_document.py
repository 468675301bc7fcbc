"""A YAML document that was read: its data, and the place in the file of every part of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from peftref.core.problem import Place
from peftref.design.yaml_locate import Text, locator
from peftref.language.parse import Locate

Path = tuple[str | int, ...]
Data = None | bool | int | float | str | list["Data"] | dict[str, "Data"]


@dataclass(frozen=True)
class Document:
    """A YAML document: its data, and where each part of it stands.

    A path is a tuple of field names and list positions, `("insert", 0, "leaves", "A")`; `()` is the whole document.
    """

    data: Data
    source: str
    lines: tuple[str, ...]
    spans: dict[Path, Text] = field(repr=False)
    keys: dict[Path, Text] = field(repr=False)

    def place(self, *path: str | int) -> Place:
        """Where the value at a path stands; where there is none, the key or value of the nearest part around it.

        >>> from peftref.design.yaml_source import read_yaml
        >>> read_yaml("a: {b: [1, 2]}", "mine.yaml").place("a", "b", 1).column
        12
        """
        while path not in self.spans:
            if not path:
                return Place(self.source, 1, 1, 1, self.lines[0] if self.lines else "")
            path = path[:-1]
            if path in self.keys:
                return self.key(*path)
        return self._place(self.spans[path])

    def key(self, *path: str | int) -> Place:
        """Where the key of a field stands; for a list item, the item itself.

        >>> from peftref.design.yaml_source import read_yaml
        >>> read_yaml("a: {b: 1}", "mine.yaml").key("a", "b").column
        5
        """
        return self._place(self.keys[path]) if path in self.keys else self.place(*path)

    def locate(self, *path: str | int) -> Locate:
        """A function from a stretch of a text's value, start and end offset, to its place in the file.

        Exact for one-line plain and quoted texts and for `|` blocks; other texts give the place where they begin.

        >>> from peftref.design.yaml_source import read_yaml
        >>> read_yaml("a: 'it''s x'", "mine.yaml").locate("a")(5, 6).column
        11
        """
        span = self.spans.get(path)
        if span is None:
            return lambda start, end: self.place(*path)
        return locator(span, self.source, self.lines)

    def keeps_columns(self, *path: str | int) -> bool:
        """Whether offsets in the text at a path have places of their own: false for folded (`>`) and wrapped texts."""
        span = self.spans.get(path)
        return span is None or span.exact

    def _place(self, span: Text) -> Place:
        text = self.lines[span.line] if span.line < len(self.lines) else ""
        stop = span.end_column if span.end_line == span.line else len(text.rstrip())
        return Place(self.source, span.line + 1, span.column + 1, max(1, stop - span.column), text.replace("\t", " "))
