"""The boxes of set mathematics: what MathML and LaTeX are both written from. Signs and letters are Unicode."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True)
class Word:
    """A letter or a word: italic for variables, upright for words, script for transforms, function for what is applied."""

    text: str
    style: Literal["italic", "upright", "script", "function"] = "italic"


@dataclass(frozen=True, slots=True)
class Digits:
    """A number."""

    text: str


@dataclass(frozen=True, slots=True)
class Sign:
    """An operator or a mark of punctuation."""

    text: str


@dataclass(frozen=True, slots=True)
class Hole:
    """A place in a notation that an operand fills: its position, `operands` for all of them, or the name of an option."""

    field: str


@dataclass(frozen=True, slots=True)
class Row:
    """Boxes side by side."""

    parts: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Fraction:
    """One box over another, with a line between."""

    top: Box
    bottom: Box


@dataclass(frozen=True, slots=True)
class Script:
    """A box with an index below, an exponent above, or both."""

    base: Box
    sub: Box | None = None
    sup: Box | None = None


@dataclass(frozen=True, slots=True)
class Root:
    """A square root."""

    inner: Box


@dataclass(frozen=True, slots=True)
class Fence:
    """A box between two fences that grow with it."""

    left: str
    inner: Box
    right: str


Box = Word | Digits | Sign | Hole | Row | Fraction | Script | Root | Fence

TIMES, APPLY, SPACE = Sign("\u2062"), Sign("\u2061"), Sign("\u2009")
"""Signs that take no ink: a product, the application of a function, a thin space."""


def row(*parts: Box) -> Box:
    """Boxes side by side, rows among them laid open; a single box is itself.

    >>> row(Word("a"), row(Sign("+"), Word("b")))
    Row(parts=(Word(text='a', style='italic'), Sign(text='+'), Word(text='b', style='italic')))
    """
    flat: list[Box] = []
    for part in parts:
        flat += part.parts if isinstance(part, Row) else (part,)
    return flat[0] if len(flat) == 1 else Row(tuple(flat))


def parenthesised(box: Box) -> Box:
    """A box in parentheses."""
    return Fence("(", box, ")")


def applied(name: Box, *operands: Box) -> Box:
    """A function applied to operands."""
    return row(name, APPLY, parenthesised(listed(operands)))


def listed(boxes: tuple[Box, ...] | list[Box], mark: str = ",") -> Box:
    """Boxes with a mark between them."""
    parts: list[Box] = []
    for box in boxes:
        parts += [Sign(mark), box] if parts else [box]
    return row(*parts)


def raised(base: Box, sup: Box) -> Box:
    """A box with an exponent; one that has an exponent already goes into parentheses."""
    if isinstance(base, Script) and base.sup is None:
        return replace(base, sup=sup)
    return Script(parenthesised(base) if isinstance(base, Script) else base, sup=sup)


def lowered(base: Box, sub: Box) -> Box:
    """A box with an index; one that has an index already keeps it in front."""
    if isinstance(base, Script):
        return replace(base, sub=sub if base.sub is None else row(base.sub, Sign(","), sub))
    return Script(base, sub=sub)


def product(left: Box, right: Box) -> Box:
    """Two factors side by side: a dot before a digit, a thin space beside a word, nothing between letters."""
    if starts_with_digit(right):
        return row(left, Sign("⋅"), right)
    wordy = _wordy(left, -1) or _wordy(right, 0)
    return row(left, SPACE if wordy else TIMES, right)


def _wordy(box: Box, end: int) -> bool:
    """Whether a box begins (end 0) or ends (end -1) with a word of several letters."""
    match box:
        case Word(text, style):
            return len(text) > 1 or style == "function"
        case Row(parts) if parts:
            return _wordy(parts[end], end)
        case Script(base):
            return _wordy(base, end)
    return False


def starts_with_digit(box: Box) -> bool:
    """Whether a box begins with a digit, so that a sign must part it from a number before it."""
    match box:
        case Digits():
            return True
        case Row(parts):
            return starts_with_digit(parts[0])
        case Script(base):
            return starts_with_digit(base)
    return False


def tall(box: Box) -> bool:
    """Whether a box is higher than a line, so that fences around it must grow."""
    match box:
        case Fraction() | Root():
            return True
        case Row(parts):
            return any(tall(part) for part in parts)
        case Fence(_, inner):
            return tall(inner)
        case Script(base):
            return isinstance(base, Sign) or tall(base)
    return False
