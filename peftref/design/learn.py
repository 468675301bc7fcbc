"""Which leaves can never learn: no path of gradient reaches them, or every path stays zero because of other leaves."""

from __future__ import annotations

from collections.abc import Iterable

from peftref.lang.expr import Call, Expr, Name, Number
from peftref.lang.ops import TABLE


def stuck(values: Iterable[Expr], trained: Iterable[str], zero: Iterable[str]) -> dict[str, str]:
    """The trained leaves that never get a gradient, each with the reason.

    values: what the equation sets, over quantities and leaves. zero: the leaves that begin as zeros. A leaf that gets a
    gradient does not stay zero, so the search goes on until nothing more wakes up.

    >>> from peftref.lang.parse import parse_expression
    >>> list(stuck([parse_expression("h + B @ A @ x")], ["A", "B"], ["A", "B"]))
    ['A', 'B']
    >>> stuck([parse_expression("h + B @ A @ x")], ["A", "B"], ["B"])
    {}
    """
    trees, waiting, still = tuple(values), list(trained), set(zero)
    ever = frozenset().union(*(_reached(tree, frozenset()) for tree in trees))
    while True:
        reached = frozenset().union(*(_reached(tree, frozenset(still)) for tree in trees))
        woken = [name for name in waiting if name in reached]
        waiting = [name for name in waiting if name not in reached]
        still.difference_update(woken)
        if not woken:
            break
    others = ", ".join(sorted(still))
    return {
        name: f"what it is multiplied with begins as zero and stays zero ({others})"
        if name in ever
        else "no gradient flows back to it"
        for name in waiting
    }


def _reached(expr: Expr, zero: frozenset[str]) -> frozenset[str]:
    """The names that a gradient reaches when some names are zero."""
    match expr:
        case Name(name):
            return frozenset({name})
        case Call("stop_gradient", _):
            return frozenset()
        case Call(op, args):
            row = TABLE[op]
            dead = {position for position, arg in enumerate(args) if position in row.vanishes and _is_zero(arg, zero)}
            # An operand in which the op is linear gets a gradient times the others; one zero among them stops it.
            return frozenset().union(
                *(
                    _reached(arg, zero)
                    for position, arg in enumerate(args)
                    if not (position in row.linear and dead - {position})
                )
            )
    return frozenset()


def _is_zero(expr: Expr, zero: frozenset[str]) -> bool:
    """Whether an expression certainly is zero when some names are."""
    match expr:
        case Number(value):
            return value == 0
        case Name(name):
            return name in zero
        case Call("add" | "sub", args):
            return all(_is_zero(arg, zero) for arg in args)
        case Call(op, args):
            return any(position in TABLE[op].vanishes and _is_zero(arg, zero) for position, arg in enumerate(args))
    return False
