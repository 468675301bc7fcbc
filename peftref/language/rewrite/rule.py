"""A law of rewriting as a value, and the choices that were made by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from peftref.language.expr import Expr
from peftref.language.rewrite.cost import Cost, Meter

Use = Literal["always", "form", "product"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A law by which an expression has the same value in another form.

    name: the law in words, as explanations say it where it has fired. use: `always`: its form takes the place of the expression;
    `form`: its form of the whole expression is tried beside the others, and the cheapest is taken; `product`: it is asked for
    another form of each product, and that is taken where it is cheaper. apply: the other form; the expression itself, or None,
    where the law has nothing to do. preferred: of equally cheap forms, one is taken in which this law has nothing more to do.
    """

    name: str
    use: Use
    apply: Callable[[Expr, Meter], Expr | None]
    preferred: bool = False

    def form(self, expr: Expr, meter: Meter) -> Expr:
        """What the law makes of an expression: itself where it has nothing to do."""
        found = self.apply(expr, meter)
        return expr if found is None else found


@dataclass(frozen=True, slots=True)
class Decision:
    """A value before and after, with the cost of each, and the names of the laws that made the one of the other."""

    before: Expr
    after: Expr
    cost_before: Cost
    cost_after: Cost
    laws: tuple[str, ...]
