"""Text and tables at the width that there is: no word is broken, and what does not fit side by side stands below one another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_PIECE = re.compile(r"\s+|[(]*[^\s/,·*+()-]+[)/,·*+-]*|[()/,·*+-]+")
"""What a line may be broken between: blanks, and after a hyphen, a slash, a comma, a sign or a closing bracket within a word."""

GAP = 2
"""Blanks between two columns."""


def pieces(text: str) -> list[str]:
    """The parts of a text between which a line may break; joined they are the text.

    >>> pieces("dense: linear MLP / none")
    ['dense:', ' ', 'linear', ' ', 'MLP', ' ', '/', ' ', 'none']
    """
    return _PIECE.findall(text)


def longest(text: str) -> int:
    """The length of the longest part that cannot be broken.

    >>> longest("intra-connectivity")
    12
    """
    return max((len(piece.strip()) for piece in pieces(text)), default=0)


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """A text in lines of at most a width, those after the first indented; a part that is longer than the width stands whole.

    >>> wrap("intra-connectivity of PEFT-Ref", 14)
    ['intra-', 'connectivity', 'of PEFT-Ref']
    """
    lines: list[str] = []
    line = ""
    for piece in pieces(text):
        if line.strip() and len((line + piece).rstrip()) > width:
            lines.append(line.rstrip())
            line = indent
        if line.strip() or not piece.isspace() or not lines:
            line += piece
    return [*lines, line.rstrip()]


def widths(columns: Sequence[Sequence[str]], total: int) -> tuple[int, ...] | None:
    """How wide each column is where all of them take at most a total; None where they cannot without breaking a word.

    The widest give way first. columns: the texts of each, its heading among them.

    >>> widths([["technique", "LoRA"], ["what it is", "a product of two factors"]], 24)
    (9, 13)
    >>> widths([["technique"], ["connectivity"]], 20) is None
    True
    """
    least = [max(map(longest, texts)) for texts in columns]
    found = [max(map(len, texts)) for texts in columns]
    room = total - GAP * (len(columns) - 1)
    if sum(least) > room:
        return None
    while (over := sum(found) - room) > 0:
        widest = max((i for i in range(len(found)) if found[i] > least[i]), key=lambda i: found[i])
        next_widest = max((size for size in found if size < found[widest]), default=0)
        found[widest] = max(least[widest], found[widest] - max(1, min(over, found[widest] - next_widest)))
    return tuple(found)


def below_one_another(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[list[str]]:
    """Each row as lines: what stands first in it, then a line `name  value` for every other cell that holds something."""
    side = max((len(name) for name in names[1:]), default=0)
    for row in rows:
        lines = wrap(row[0], width)
        for name, cell in zip(names[1:], row[1:], strict=True):
            if cell:
                if 2 + side + GAP + longest(cell) <= width:
                    head, *rest = wrap(cell, width - 2 - side - GAP)
                    lines += [f"  {name:<{side}}{' ' * GAP}{head}", *(" " * (2 + side + GAP) + each for each in rest)]
                else:
                    lines += [f"  {name}", *(f"    {each}" for each in wrap(cell, width - 4))]
        yield lines
