"""One technique seen as another: what its equation makes of its leaves alone stands where the other has leaves."""

from __future__ import annotations

from collections.abc import Mapping

from peftref.core.problem import fail
from peftref.design.insertion import insertions
from peftref.design.technique import Technique
from peftref.language.check import Effect
from peftref.language.expr import Call, Expr, Name
from peftref.language.rewrite.constant import depends


def fold(technique: Technique, into: Technique) -> tuple[Mapping[str, Mapping[str, Expr]], ...]:
    """For each insertion and slot, the leaves of the other technique as expressions over the leaves of this one.

    Raises PeftrefError `no-peer` where the two differ in more than that.

    >>> from peftref.design.load import load
    >>> from peftref.language.show import show
    >>> show(fold(load("cpt"), load("prompt"))[0]["embedding"]["P"])[:10]
    'E0 + delta'
    """
    mine, other = insertions(technique), insertions(into)
    found: list[Mapping[str, Mapping[str, Expr]]] = []
    for here, there in zip(mine, other, strict=False):
        leaves = set(there.leaves)
        each = {slot: _matched(effect, there.effects.get(slot), leaves) for slot, effect in here.effects.items()}
        found.append({slot: values for slot, values in each.items() if values})
    if len(mine) != len(other) or any(len(one) < len(here.effects) for one, here in zip(found, mine, strict=True)):
        raise fail("no-peer", f"{technique.name} is no {into.name} whose leaves are made of other ones")
    return tuple(found)


def _matched(effect: Effect, other: Effect | None, leaves: set[str]) -> dict[str, Expr] | None:
    """The leaves of the other at one slot, or None where it is another equation, or where they depend on the host."""
    if other is None or effect.values.keys() != other.values.keys():
        return None
    found: dict[str, Expr] = {}
    same = all(_match(pattern, effect.values[name], leaves, found) for name, pattern in other.values.items())
    return found if same and not any(depends(expr, effect.scope) for expr in found.values()) else None


def _match(pattern: Expr, expr: Expr, leaves: set[str], found: dict[str, Expr]) -> bool:
    if isinstance(pattern, Name) and pattern.name in leaves:
        return found.setdefault(pattern.name, expr) == expr
    if not isinstance(pattern, Call) or not isinstance(expr, Call):
        return pattern == expr
    if (pattern.op, len(pattern.args), pattern.options) != (expr.op, len(expr.args), expr.options):
        return False
    return all(_match(*each, leaves, found) for each in zip(pattern.args, expr.args, strict=True))
