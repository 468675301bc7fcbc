"""Which leaves can never learn, because every path of gradient to them stays zero."""

from __future__ import annotations

from collections.abc import Iterable

from peftref.language.expr import Call, Expr, Name, Number
from peftref.language.ops import TABLE


def stuck(values: Iterable[Expr], trained: Iterable[str], zero: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The trained leaves that zeros keep from ever getting a gradient, each with the leaves that could wake it.

    values: what the equation sets, over quantities and leaves. zero: the leaves that begin as zeros. A leaf that gets a
    gradient does not stay zero, so the search goes on until nothing more wakes up.

    >>> from peftref.language.parse import parse_expression
    >>> product = [parse_expression("h + B @ A @ x")]
    >>> stuck(product, ["A", "B"], ["A", "B"]), stuck(product, ["A", "B"], ["B"])
    ({'A': ('B',), 'B': ('A',)}, {})
    """
    trees, waiting, still = tuple(values), list(trained), frozenset(zero)
    reachable = reached(trees)
    while True:
        woken = frozenset(waiting) & reached(trees, still)
        if not woken:
            break
        waiting = [name for name in waiting if name not in woken]
        still -= woken
    return {name: _wakers(name, trees, still) for name in waiting if name in reachable}


def _wakers(name: str, trees: tuple[Expr, ...], zero: frozenset[str]) -> tuple[str, ...]:
    """The zero leaves of which a single one, not zero, would let a gradient through; all of them where it takes several."""
    others = sorted(zero - {name})
    return tuple(other for other in others if name in reached(trees, zero - {other})) or tuple(others)


def reached(values: Iterable[Expr], zero: frozenset[str] = frozenset()) -> frozenset[str]:
    """The names to which a gradient flows back from some expressions while some names are zero.

    >>> from peftref.language.parse import parse_expression
    >>> sorted(reached([parse_expression("m * stop_gradient(W) + 0 * A")]))
    ['m']
    """
    return frozenset().union(*(_reached(value, zero) for value in values))


def _reached(expr: Expr, zero: frozenset[str]) -> frozenset[str]:
    """The names that a gradient reaches when some names are zero."""
    match expr:
        case Name(name):
            return frozenset({name})
        case Call(op, args):
            row = TABLE[op]
            dead = {position for position, arg in enumerate(args) if position in row.vanishes and _is_zero(arg, zero)}
            # An operand in which the op is linear gets a gradient times the others; one zero among them stops it.
            return frozenset().union(
                *(
                    _reached(arg, zero)
                    for position, arg in enumerate(args)
                    if position not in row.still and not (position in row.linear and dead - {position})
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
        case Call(op, args) if TABLE[op].additive:
            return all(_is_zero(arg, zero) for arg in args)
        case Call(op, args):
            return any(position in TABLE[op].vanishes and _is_zero(arg, zero) for position, arg in enumerate(args))
    return False
