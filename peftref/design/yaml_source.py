"""YAML text -> document. Read from parser events: no recursion, and nothing but texts, numbers, lists and mappings is made.

Refused by name: duplicate keys, keys that are no texts, tags, anchors and aliases, several documents, and what is too
deep, too long or too large. What can be mended together is reported together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from peftref.core.problem import PeftrefError, Place, Problem
from peftref.design.yaml_document import Data, Document, Path
from peftref.design.yaml_locate import Text
from peftref.design.yaml_scalars import resolve

MAX_BYTES = 64 * 1024
MAX_DEPTH = 40
MAX_NODES = 5_000

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_OPENER = re.compile(r"[\[{?-]")
_MANY = 500
"""Openers of lists and mappings in one line, from which on libyaml does not read it: it looks ahead to the end of a line, and some
versions refuse a thousand levels by themselves, before the first of them is seen here."""
_BAD_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_WIDE_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_SYNTAX = (
    ("mapping values are not allowed", "a second ': ' stands on this line", "put the whole text in quotes"),
    ("could not find expected ':'", "a ': ' is missing after this name", "write NAME: VALUE"),
    ("found unexpected end of stream", "a quote is opened here and never closed", None),
    ("unknown escape character", "this backslash escape is unknown", "use single quotes, where a backslash is itself"),
    ("while parsing a flow sequence", "this list is not closed, or a comma is missing in it", "lists are [a, b]"),
    ("while parsing a flow mapping", "this mapping is not closed, or a comma is missing in it", "write {a: 1, b: 2}"),
    ("while parsing a flow node", "a value is missing here", None),
    ("cannot start any token", "a text cannot begin with this character", "put the text in quotes"),
    ("while parsing a block mapping", "this does not line up with the fields above it", "line the fields up"),
    ("while parsing a block collection", "this does not line up with the list above it", "begin list items with -"),
)
_OPENED = ("this list", "this mapping", "a quote", "a ': ' is missing")


def decode(raw: bytes, source: str) -> str:
    """The text of a file's bytes, UTF-8 with or without a byte-order mark. Raises PeftrefError `yaml-encoding`.

    >>> decode(b"\\xef\\xbb\\xbfname: lora", "mine.yaml")
    'name: lora'
    """
    for mark, encoding in _WIDE_MARKS:
        if raw.startswith(mark):
            raise PeftrefError([Problem("yaml-encoding", f"{source} is in {encoding}", hint="save it as UTF-8")])
    body = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        before = body[: error.start].decode("utf-8")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        text = f"byte 0x{body[error.start]:02x} is not UTF-8"
        problem = Problem("yaml-encoding", text, Place(source, line, column), hint="save it as UTF-8")
        raise PeftrefError([problem]) from None


def read_yaml(text: str, source: str, *, limit: int = MAX_BYTES) -> Document:
    """The document of a YAML text of at most `limit` bytes. Raises PeftrefError with every problem found.

    >>> read_yaml("lr: 1e-3\\nname: no", "mine.yaml").data
    {'lr': 0.001, 'name': 'no'}
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > limit:
        raise PeftrefError([Problem("yaml-size", f"{source} has {size} bytes; at most {limit} are read")])
    reader = _Reader(source, tuple(text.split("\n")))
    reader.characters()
    return reader.read(text)


def _span(event: yaml.Event, value: str | None = None, style: str | None = None) -> Text:
    start, end = event.start_mark, event.end_mark
    if start is None or end is None:
        return Text(0, 0, 0, 0, value, style or "")
    return Text(start.line, start.column, end.line, end.column, value, style or "")


@dataclass(slots=True)
class _Open:
    """A list or mapping that is being read, and in a mapping the key that waits for its value."""

    value: list[Data] | dict[str, Data]
    path: Path
    span: Text
    key: str | None = None


class _Reader:
    """Builds the data from events, with one open list or mapping per level."""

    def __init__(self, source: str, lines: tuple[str, ...]) -> None:
        self.source = source
        self.lines = lines
        self.problems: list[Problem] = []
        self.spans: dict[Path, Text] = {}
        self.keys: dict[Path, Text] = {}
        self.open: list[_Open] = []
        self.root: Data = None
        self.nodes = 0

    def characters(self) -> None:
        """Raises for characters that may not stand in YAML, the first ten of them."""
        for number, line in enumerate(self.lines):
            for match in _BAD_CHARACTER.finditer(line):
                span = Text(number, match.start(), number, match.end(), None, "")
                self._problem("yaml-character", f"the character U+{ord(match.group()):04X} may not stand here", span)
                if len(self.problems) == 10:
                    break
        if self.problems:
            raise PeftrefError(self.problems[:10])

    def read(self, text: str) -> Document:
        """The document; raises PeftrefError."""
        documents = 0
        for event in self._events(text):
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._stop("yaml-documents", "a second document begins here", event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._close(event)
            elif isinstance(event, yaml.NodeEvent):
                self._node(event)
        if not documents:
            self.problems.append(Problem("yaml-empty", f"{self.source} is empty"))
        if self.problems:
            raise PeftrefError(self.problems)
        return Document(self.root, self.source, self.lines, self.spans, self.keys)

    def _events(self, text: str) -> Iterator[yaml.Event]:
        deep = any(len(_OPENER.findall(line)) > _MANY for line in self.lines)
        try:
            yield from yaml.parse(text, Loader=yaml.SafeLoader if deep else _LOADER)
        except yaml.MarkedYAMLError as error:
            raise PeftrefError([*self.problems, self._syntax(error)]) from None
        except yaml.YAMLError as error:
            text = f"{self.source} is not YAML: {error}"
            raise PeftrefError([*self.problems, Problem("yaml-syntax", text)]) from None

    def _syntax(self, error: yaml.MarkedYAMLError) -> Problem:
        said = f"{error.problem} {error.context}"
        found = _mark(error.problem_mark) or (0, 0)
        opened = _mark(error.context_mark) or found
        if self._line(found[0])[found[1] : found[1] + 1] == "\t":
            return self._told("yaml-tab", "a tab stands here", *found, "indent with spaces")
        for sign, text, hint in _SYNTAX:
            if sign in said:
                return self._told("yaml-syntax", text, *(opened if text.startswith(_OPENED) else found), hint)
        return self._told("yaml-syntax", f"this is not YAML: {error.problem}", *found, None)

    def _told(self, code: str, text: str, line: int, column: int, hint: str | None) -> Problem:
        return Problem(code, text, self._place(Text(line, column, line, column, None, "")), hint=hint)

    def _node(self, event: yaml.NodeEvent) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self._stop("yaml-nodes", f"there are more than {MAX_NODES} values up to here", event)
        if event.anchor is not None:
            self._refuse("yaml-anchor", "anchors (&name) and aliases (*name) are not read", event)
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
            self._refuse("yaml-tag", "tags (!name) are not read", event)
        if isinstance(event, yaml.ScalarEvent):
            self._put(self._value(event), _span(event, event.value, event.style))
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(self.open) == MAX_DEPTH:
                self._stop("yaml-depth", f"this nests deeper than {MAX_DEPTH} levels", event)
            value: list[Data] | dict[str, Data] = {} if isinstance(event, yaml.MappingStartEvent) else []
            self.open.append(_Open(value, self._put(value, _span(event)), _span(event)))
        else:
            self._put(None, _span(event))

    def _value(self, event: yaml.ScalarEvent) -> Data:
        if event.style:
            return event.value
        try:
            return resolve(event.value)
        except ValueError as error:
            self._problem("yaml-number", str(error), _span(event))
            return 0

    def _close(self, event: yaml.Event) -> None:
        closed, end = self.open.pop(), _span(event)
        if closed.path in self.spans:
            begin = closed.span
            self.spans[closed.path] = Text(begin.line, begin.column, end.end_line, end.end_column, None, "")

    def _put(self, value: Data, span: Text) -> Path:
        """Puts a value, or a key, where it belongs; gives its path."""
        path: Path = ()
        parent = self.open[-1] if self.open else None
        if parent is None:
            self.root = value
        elif isinstance(parent.value, list):
            path = (*parent.path, len(parent.value))
            parent.value.append(value)
        elif parent.key is None:
            parent.key = self._key(parent, value, span)
            return (*parent.path, parent.key)
        else:
            path = (*parent.path, parent.key)
            parent.value[parent.key] = value
            parent.key = None
        self.spans[path] = span
        return path

    def _key(self, parent: _Open, value: Data, span: Text) -> str:
        if not isinstance(value, str):
            shown = "a list or a mapping" if span.value is None else span.value or "nothing"
            self._problem("yaml-key", f"the name of a field must be a text, not {shown}", span, "write it in quotes")
            return f"({shown})"
        path = (*parent.path, value)
        if path in self.keys:
            first = self.keys[path].line + 1
            self._problem("yaml-duplicate-key", f"the field {value} stands twice; the first is in line {first}", span)
        self.keys.setdefault(path, span)
        return value

    def _refuse(self, code: str, text: str, event: yaml.Event) -> None:
        self._problem(code, text, _span(event), "write the value itself")

    def _problem(self, code: str, text: str, span: Text, hint: str | None = None) -> None:
        self.problems.append(Problem(code, text, self._place(span), hint=hint))

    def _stop(self, code: str, text: str, event: yaml.Event) -> None:
        span = _span(event)
        self._problem(code, text, Text(span.line, span.column, span.line, span.column, None, ""))
        raise PeftrefError(self.problems)

    def _line(self, number: int) -> str:
        return self.lines[number] if number < len(self.lines) else ""

    def _place(self, span: Text) -> Place:
        shown = re.sub(r"\t", " ", _BAD_CHARACTER.sub(" ", self._line(span.line)))
        length = span.end_column - span.column if span.line == span.end_line else 1
        return Place(self.source, span.line + 1, span.column + 1, max(1, length), shown)


def _mark(mark: object) -> tuple[int, int] | None:
    line, column = getattr(mark, "line", None), getattr(mark, "column", None)
    return (line, column) if isinstance(line, int) and isinstance(column, int) else None
