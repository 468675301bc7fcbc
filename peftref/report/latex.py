"""A table as LaTeX that compiles with what every LaTeX has: narrow ones stay on a page, wide ones run over pages, on their side,
and those that are wider still in several parts.

Rules are those of booktabs where a document loads it, and plain lines else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from peftref.language.typeset.letters import COMMANDS
from peftref.report.table import Column, Table

NARROW, UPRIGHT, WIDEST = 90, 100, 152
"""Widths in letters: up to which a table is set as it is, and upright over pages; and the widest that a page on its side takes."""

_SMALL = (
    r"\begingroup\scriptsize\setlength{\tabcolsep}{2pt}\setlength{\LTleft}{0pt}\setlength{\LTright}{0pt}"
    r"\renewcommand{\arraystretch}{1.15}"
)

_RULES = [rf"\providecommand{{\{rule}}}{{\hline}}" for rule in ("toprule", "midrule", "bottomrule")]
_ESCAPED = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"{\char34}", "`": r"\textasciigrave{}", "'": r"{\char39}",
    "±": r"$\pm$", "²": r"$^{2}$", "³": r"$^{3}$", "≤": r"$\leq$", "≥": r"$\geq$", "−": "$-$", "–": "--", "—": "---",
    "‘": "`", "’": "'", "“": "``", "”": "''", "…": r"\ldots{}", "\u00a0": "~", "\n": " ", "\u200b": "{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{letter: f"${command}$" for letter, command in COMMANDS.items() if ord(letter) > 127 and letter.isprintable() and letter != "\u2009"},
}  # fmt: skip


def latex_table(table: Table) -> str:
    """The table as LaTeX, best values in bold, with a comment that says which packages it needs.

    >>> from peftref.report.table import Column, Table
    >>> print(latex_table(Table((Column("a", "a_1"),), ({"a": 1},))).splitlines()[6])
    a\\_1 \\\\
    """
    shown = [[column.heading for column in table.columns], *table.cells()]
    natural = sum(max(map(len, texts)) for texts in zip(*shown, strict=True))
    best = [table.best(column) for column in table.columns]
    cells = [[_marked(cell, i in best[j]) for j, cell in enumerate(row)] for i, row in enumerate(table.cells())]
    heads = [latex_text(column.heading) for column in table.columns]
    if natural > NARROW:
        widths = [_width(column, table, first=i == 0) for i, column in enumerate(table.columns)]
        parts = [_Part(table, heads, cells, widths, chosen) for chosen in _parts(widths)]
        side = any(part.total > UPRIGHT for part in parts)
        packages = "longtable,array,lscape" if side else "longtable,array"
        inner = [line for part in parts for line in part.lines()]
        turned = [r"\begin{landscape}", *inner, r"\end{landscape}"] if side else inner
        return _text([rf"% \usepackage{{{packages}}}", *_RULES, *turned])
    form = "".join("r" if table.numeric(column) else "l" for column in table.columns)
    begin = ["% needs no package", *_RULES, rf"\begin{{tabular}}{{{form}}}", r"\toprule"]
    lines = [_line(row) for row in cells]
    return _text([*begin, _line(heads), r"\midrule", *lines, r"\bottomrule", r"\end{tabular}"])


def _parts(widths: Sequence[float]) -> list[list[int]]:
    """The columns of a table in parts that fit on a page, each with the first column, which names the rows, in front."""
    parts: list[list[int]] = []
    for i, width in enumerate(widths[1:], start=1):
        if not parts or sum(widths[j] for j in parts[-1]) + width > WIDEST:
            parts.append([0])
        parts[-1].append(i)
    return parts or [[0]]


@dataclass(frozen=True)
class _Part:
    """Some columns of a table, to be set over as many pages as they need, each as wide as its content asks for."""

    table: Table
    heads: Sequence[str]
    cells: Sequence[Sequence[str]]
    widths: Sequence[float]
    chosen: Sequence[int]

    @property
    def total(self) -> float:
        """The width in letters."""
        return sum(self.widths[i] for i in self.chosen)

    def lines(self) -> list[str]:
        """The part as LaTeX."""
        columns = [self._column(i) for i in self.chosen]
        rows = [_line([row[i] for i in self.chosen]) for row in self.cells]
        head = _line([self.heads[i] for i in self.chosen])
        begin = [rf"\begin{{longtable}}{{{' '.join(columns)}}}", r"\toprule", head, r"\midrule", r"\endhead"]
        return [_SMALL, *begin, r"\bottomrule", r"\endfoot", *rows, r"\end{longtable}", r"\endgroup"]

    def _column(self, i: int) -> str:
        ragged = r"\raggedleft" if self.table.numeric(self.table.columns[i]) else r"\raggedright"
        place = rf"p{{\dimexpr {self.widths[i] / self.total:.4f}\linewidth-2\tabcolsep\relax}}"
        return rf">{{{ragged}\arraybackslash\hspace{{0pt}}}}{place}"


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"


def _marked(cell: str, best: bool) -> str:
    return rf"\textbf{{{latex_text(cell)}}}" if best else latex_text(cell)


def _width(column: Column, table: Table, *, first: bool) -> float:
    """The width of a column in letters: its longest word, or more where most of its cells are longer."""
    texts = [column.heading, *(column.text(row.get(column.key)) for row in table.rows)]
    word = max(len(word) for text in texts for word in re.findall(r"[^\s-]+-?|-", text) or [""])
    mean = sum(map(len, texts)) / len(texts)
    named = min(18.0, max(map(len, texts))) if first else 0.0
    return max(word + 1.5, mean, named, 3.0)


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def latex_text(text: str) -> str:
    r"""A text in which LaTeX finds nothing to do; a letter that no plain LaTeX has is told by its number.

    >>> print(latex_text("a_b & 50% α 漢"))
    a\_b \& 50\% $\alpha$ [U+6F22]
    """
    text = text.replace("--", "-\u200b-")  # two hyphens would be set as a dash
    return "".join(_ESCAPED.get(letter, letter if ord(letter) < 0x17F else f"[U+{ord(letter):04X}]") for letter in text)
