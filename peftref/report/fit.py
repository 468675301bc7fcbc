"""Text and tables at the width that there is: no word is broken, and nothing is left out."""

from __future__ import annotations

import re
from collections.abc import Sequence

_HYPHENED = re.compile(r"[(\[]*[^\W\d_]+(?:-[^\W\d_]+)+[)\],;:.]*")
_HYPHEN = re.compile(r"(?<=[^\W\d_]{3}-)(?=[^\W\d_]{3})")
"""A word of letters and hyphens, and where it may be broken: after a hyphen between three letters and three."""

GAP = 2
"""Blanks between two columns."""


def pieces(text: str) -> list[str]:
    """The parts of a text between which a line may break; joined they are the text.

    >>> pieces("intra-connectivity 1,024 of h / r")
    ['intra-', 'connectivity', ' ', '1,024', ' ', 'of', ' ', 'h', ' ', '/', ' ', 'r']
    """
    words = re.findall(r"\s+|\S+", text)
    return [part for word in words for part in (_HYPHEN.split(word) if _HYPHENED.fullmatch(word) else [word])]


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
    room = total - GAP * (len(columns) - 1)
    least = [max(map(longest, texts)) for texts in columns]
    if sum(least) > room:
        return None
    found = [min(room, max(map(len, texts))) for texts in columns]
    for _ in range(sum(found) - room):
        found[max((i for i in range(len(found)) if found[i] > least[i]), key=lambda i: found[i])] -= 1
    return tuple(found)


def beside_one_another(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[range]:
    """The rows of a table that stand together where each row is set as a column, beside one column of the headings.

    As many as fit while their lines are on average no more than two high; one that does not fit stands alone.

    >>> beside_one_another(["technique", "form"], [["LoRA", "parallel"], ["BitFit", "none"], ["(IA)³", "none"]], 28)
    [range(0, 2), range(2, 3)]
    """
    found: list[range] = []
    start = 0
    while start < len(rows):
        end = start + 1
        while end < len(rows) and _stand(headings, rows[start : end + 1], width):
            end += 1
        found.append(range(start, end))
        start = end
    return found


def _stand(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> bool:
    columns = [headings, *rows]
    sizes = widths(columns, width)
    if sizes is None:
        return False
    heights = [
        max(len(wrap(text, size)) for text, size in zip(line, sizes, strict=True))
        for line in zip(*columns, strict=True)
    ]
    return sum(heights) <= 2 * len(heights)


def below_one_another(names: Sequence[str], row: Sequence[str], width: int) -> list[str]:
    """A row as lines: what stands first in it, then a name and its value for every other cell that holds something."""
    lines = wrap(row[0], width)
    for name, cell in zip(names[1:], row[1:], strict=True):
        if cell:
            lines += [f"  {line}" for line in wrap(name, width - 2)]
            lines += [f"    {line}" for line in wrap(cell, width - 4)]
    return lines
