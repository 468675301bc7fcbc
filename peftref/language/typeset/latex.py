"""Boxes -> LaTeX mathematics, for the packages that every LaTeX has and amsmath."""

from __future__ import annotations

from collections.abc import Iterable

from peftref.language.expr import Equation, Expr, Statement
from peftref.language.scope import Scope
from peftref.language.typeset.box import (
    APPLY,
    SPACE,
    TIMES,
    Box,
    Digits,
    Fence,
    Fraction,
    Hole,
    Root,
    Row,
    Script,
    Sign,
    Word,
    tall,
)
from peftref.language.typeset.letters import COMMANDS, FUNCTIONS
from peftref.language.typeset.notate import lines, notate

_MARKS = {TIMES: " ", APPLY: "", SPACE: r"\,", Sign("−"): "-", Sign("′"): r"\prime"}
_FENCES = {"‖": (r"\lVert", r"\rVert"), "[": ("[", "]"), "(": ("(", ")")}
_ESCAPED = {letter: f"\\{letter}" for letter in "&%$#_{}"}


def latex(tree: Expr | Equation | Statement, scope: Scope | None = None) -> str:
    r"""The tree as LaTeX mathematics.

    >>> from peftref.language.parse import parse
    >>> latex(parse("h' = h + (alpha / r) * B @ A @ x"))
    "h' = h+\\frac{\\alpha}{r} B A x"
    """
    match tree:
        case Equation():
            return latex_lines(lines(tree, scope))
        case Statement():
            return latex_lines(lines(Equation((tree,)), scope))
    return latex_box(notate(tree, scope))


def latex_lines(statements: Iterable[tuple[Box, Box]]) -> str:
    """Statements, one to a line."""
    return r" \\ ".join(f"{latex_box(left)} = {latex_box(right)}" for left, right in statements)


def latex_display(statements: Iterable[tuple[Box, Box]]) -> str:
    """Statements as a display of amsmath, aligned at their equals signs."""
    rows = " \\\\\n".join(f"{latex_box(left)} &= {latex_box(right)}" for left, right in statements)
    return f"\\begin{{align*}}\n{rows}\n\\end{{align*}}"


def latex_box(box: Box) -> str:
    """A box as LaTeX."""
    match box:
        case Word(text, style):
            if style == "script":
                return rf"\mathcal{{{text}}}"
            if style == "italic":
                return COMMANDS.get(text, text)
            if text in FUNCTIONS and style == "function":
                return f"\\{text}"
            escaped = "".join(_ESCAPED.get(letter, letter) for letter in text)
            return rf"\{'operatorname' if style == 'function' else 'mathrm'}{{{escaped}}}"
        case Digits(text):
            return text
        case Sign(text):
            return _MARKS[box] if box in _MARKS else COMMANDS.get(text, text)
        case Row(parts):
            return _joined([latex_box(part) for part in parts])
        case Fraction(top, bottom):
            return rf"\frac{{{latex_box(top)}}}{{{latex_box(bottom)}}}"
        case Root(inner):
            return rf"\sqrt{{{latex_box(inner)}}}"
        case Fence(left, inner, right):
            opening, closing = _FENCES.get(left, (COMMANDS.get(left, left), COMMANDS.get(right, right)))
            if not tall(inner):
                return _joined([opening, latex_box(inner), closing])
            return _joined([rf"\left{opening}", latex_box(inner), rf"\right{closing}"])
        case Script(base, sub, sup):
            below = f"_{{{latex_box(sub)}}}" if sub is not None else ""
            above = "'" if sup == Sign("′") else f"^{{{latex_box(sup)}}}" if sup is not None else ""
            return f"{latex_box(base)}{above}{below}"
        case Hole(field):
            return rf"\square_{{{field}}}"


def _joined(parts: Iterable[str]) -> str:
    """Texts side by side, with a blank where a command would run into a letter."""
    text = ""
    for part in parts:
        command = text.rpartition("\\")[2] if "\\" in text else ""
        text += f" {part}" if command.isalpha() and command and part[:1].isalpha() else part
    return text
