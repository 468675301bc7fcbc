r"""The notation of an op: the LaTeX in its row of the op table, read as boxes with holes for the operands.

A small part of LaTeX is read: letters, digits, signs, `_`, `^`, groups, parentheses, `\operatorname`, `\mathrm`, `\mathcal`,
`\sqrt`, and the commands of `letters`. In the row, braces of LaTeX are doubled, and `{0}`, `{1}`, `{operands}` and `{option}` are
the holes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from string import Formatter
from typing import Literal

from peftref.language.typeset.box import APPLY, Box, Digits, Fence, Hole, Root, Row, Sign, Word, lowered, raised, row
from peftref.language.typeset.letters import FUNCTIONS, GREEK, SIGNS

_TOKEN = re.compile(r"\\([A-Za-z]+|.)|(\s+)|([0-9]+)|(.)")
_FENCES = {"(": ")", "[": "]", "‖": "‖", "⌊": "⌋", "⌈": "⌉"}
_STYLES: Mapping[str, Literal["function", "upright", "script"]] = {
    "operatorname": "function",
    "mathrm": "upright",
    "mathcal": "script",
}

Token = str | Hole


@cache
def template(text: str) -> Box:
    r"""The boxes of a notation; raises ValueError for what is no notation.

    >>> template(r"{0} \otimes {1}")
    Row(parts=(Hole(field='0'), Sign(text='⊗'), Hole(field='1')))
    """
    tokens: list[Token] = []
    for literal, field, _, _ in Formatter().parse(text):
        tokens += [match[0] for match in _TOKEN.finditer(literal) if not match[2]]
        if field is not None:
            tokens.append(Hole(field))
    reader = _Reader(tokens)
    found = reader.until(None)
    if reader.at < len(tokens):
        raise ValueError(f"{text} is no notation: {tokens[reader.at]} stands alone")
    return found


class _Reader:
    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0

    def until(self, end: str | None) -> Box:
        """Boxes up to a closing token, which is taken."""
        parts: list[Box] = []
        while self.at < len(self.tokens) and self.peek() != end:
            parts.append(self.scripted(after=parts))
        if end is not None:
            self.take()
        return row(*parts) if parts else Row(())

    def scripted(self, after: list[Box]) -> Box:
        """A box with what is set below and above it."""
        box = self.single()
        if isinstance(box, Fence) and box.left == "(" and after and _names(after[-1]):
            box = row(APPLY, box)
        while self.peek() in ("_", "^"):
            place = lowered if self.take() == "_" else raised
            box = place(box, self.single())
        return box

    def single(self) -> Box:
        """The next box: a group, a command, a fence, a letter, a number or a sign."""
        token = self.take()
        if isinstance(token, Hole):
            return token
        char = SIGNS.get(token[1:], token) if token.startswith("\\") else token
        if char in _FENCES:
            return Fence(char, self.until(self._closing(char)), _FENCES[char])
        if token == "{":
            return self.until("}")
        if char != token:
            return Sign(char)
        if token.startswith("\\"):
            return self.command(token[1:])
        if token.isdigit():
            return Digits(token)
        return Word(token) if token.isalpha() else Sign("−" if token == "-" else token)

    def command(self, name: str) -> Box:
        if name in _STYLES:
            text = "".join(str(each) for each in self._group())
            return Word(text, _STYLES[name])
        if name == "sqrt":
            return Root(self.single())
        if name in FUNCTIONS:
            return Word(name, "function")
        if name in GREEK:
            return Word(GREEK[name])
        raise ValueError(f"\\{name} is no command of a notation")

    def _group(self) -> list[Token]:
        if self.take() != "{":
            raise ValueError("a group in braces is wanted")
        start = self.at
        self.at = self.tokens.index("}", start) + 1
        return self.tokens[start : self.at - 1]

    @staticmethod
    def _closing(char: str) -> str:
        return r"\rVert" if char == "‖" else _FENCES[char]

    def peek(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self) -> Token:
        if self.at >= len(self.tokens):
            raise ValueError("a notation ends too early")
        self.at += 1
        return self.tokens[self.at - 1]


def _names(box: Box) -> bool:
    """Whether a box is the name of a function."""
    base = getattr(box, "base", box)
    return isinstance(base, Word) and (base.style != "italic" or base.text in GREEK.values())
