"""Quantities of other slots of the same layer, as an equation reads them: `attention.key.W`."""

from __future__ import annotations

from dataclasses import replace

from peftref.host.architecture import slot_beside
from peftref.language.expr import Equation, Expr, Name, Statement, rebuild


def read_at(equation: Equation, slot: str) -> Equation:
    """The equation with the slot itself wherever it names one: at cross attention `attention` is cross attention.

    >>> from peftref.language.parse import parse
    >>> from peftref.language.show import show
    >>> show(read_at(parse("q' = q + attention.key.W @ x"), "cross_attention.core"))
    "q' = q + cross_attention.key.W @ x"
    """
    return Equation(tuple(Statement(each.targets, _read_at(each.value, slot)) for each in equation.statements))


def _read_at(expr: Expr, slot: str) -> Expr:
    if not isinstance(expr, Name):
        return rebuild(expr, lambda child: _read_at(child, slot))
    word, dot, quantity = expr.name.rpartition(".")
    found = slot_beside(word, slot) if dot else None
    return expr if found in (None, word) else replace(expr, name=f"{found}.{quantity}")


def told_once(slots: tuple[str, ...]) -> tuple[str, ...]:
    """Some slots without those of cross attention where the same of self attention is among them.

    >>> told_once(("attention.query", "cross_attention.query", "cross_attention.core"))
    ('attention.query', 'cross_attention.core')
    """
    return tuple(
        slot for slot in slots if slot.removeprefix("cross_") == slot or slot.removeprefix("cross_") not in slots
    )
