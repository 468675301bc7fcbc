"""What a peer's fields say, as expressions of each other and of a host's sizes: read one way, and solved the other way.

`bottleneck: d_model // reduction_factor` says our setting by their field, and by it their field follows from our setting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from peftref.language.expr import Call, Expr, Name, Number, names
from peftref.language.parse import parse_expression

NEAR = 1e-9
"""How far a quotient of decimal fractions may be from the whole number that it stands for, as a share of it."""


@cache
def term(text: str) -> Expr:
    """The tree of an expression."""
    return parse_expression(text)


def read_names(text: str) -> tuple[str, ...]:
    """The names that an expression reads, sorted.

    >>> read_names("d_model // reduction_factor"), read_names("inner.n")
    (('d_model', 'reduction_factor'), ('inner.n',))
    """
    return tuple(sorted(names(term(text))))


def value_of(text: str, values: Mapping[str, Any]) -> Any:
    """The value of an expression: of a name alone whatever it is, else a number, whole where it is so near; None where it has none.

    >>> value_of("1 / rate", {"rate": 0.02}), value_of("d_model // factor", {"d_model": 768, "factor": 10.5})
    (50, 73)
    >>> value_of("tokens - kept", {"tokens": 20, "kept": None})
    """
    found = term(text)
    if isinstance(found, Name):
        return values.get(found.name)
    try:
        return _whole(_number(found, values))
    except (TypeError, ZeroDivisionError, OverflowError):
        return None


def solved(text: str, value: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The one name in an expression that has no value yet, with the value that gives the expression its own.

    A denominator is taken a little too large, since a peer rounds down what it multiplies with it.

    >>> solved("d_model // factor", 76, {"d_model": 768})["factor"] < 768 / 76 + 1e-9
    True
    >>> solved("all - kept", 19, {"kept": 1}), solved("1 / (1 - sparsity)", 4, {})
    ({'all': 20}, {'sparsity': 0.75})
    """
    (name,) = (each for each in read_names(text) if each not in values)
    found = term(text)
    while isinstance(found, Call):
        left, right = found.args
        inside = name in names(left)
        other = _number(right if inside else left, values)
        value = _inverse(found.op, value, other, inside)
        found = left if inside else right
    return {name: _whole(value) if isinstance(value, float) else value}


def _inverse(op: str, value: Any, other: Any, left: bool) -> Any:
    """The operand of which an op gives a value; left: whether it is the left one."""
    match op, left:
        case "add", _:
            return value - other
        case "sub", True:
            return value + other
        case "sub", False:
            return other - value
        case "mul", _:
            return value / other
        case "div", True:
            return value * other
        case "div", False:
            return math.ceil(1e12 * other / value) / 1e12
        case "floordiv", False:
            return _divisor(other, value)
        case "max", _:
            return value
    raise ValueError(f"{op} of a field has no inverse")


def _divisor(number: int, value: int) -> float:
    """What a number is divided by, rounding down, to come to a value."""
    found = number / value
    while int(number // found) < value:
        found = math.nextafter(found, 0)
    return found


def _number(expr: Expr, values: Mapping[str, Any]) -> Any:
    match expr:
        case Number(value):
            return value
        case Name(name):
            found = values.get(name)
            if isinstance(found, bool) or not isinstance(found, int | float):
                raise TypeError(name)
            return found
        case Call(op, args):
            left, right = (_number(arg, values) for arg in args)
            return {
                "add": lambda: left + right,
                "sub": lambda: left - right,
                "mul": lambda: left * right,
                "div": lambda: left / right,
                "floordiv": lambda: left // right,
                "max": lambda: max(left, right),
            }[op]()
    raise TypeError(expr)


def _whole(value: Any) -> Any:
    near = round(value)
    return near if abs(value - near) <= NEAR * max(1, abs(near)) else value
