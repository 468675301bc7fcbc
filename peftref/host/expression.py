"""Small integer expressions of a config's fields, as a family's map writes them. Nothing is evaluated by Python itself."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}
_LONGEST = 200


def compute(text: str, fields: Mapping[str, Any]) -> int:
    """The number that an expression stands for: fields, whole numbers, + - * // and `a if b else c`, `not`, `and`, `or`.

    Raises ValueError for anything else, and for a field that is not there.

    >>> compute("hidden_size // heads if split else 1", {"hidden_size": 64, "heads": 4, "split": True})
    16
    """
    if len(text) > _LONGEST:
        raise ValueError(f"an expression of more than {_LONGEST} characters")
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r} is not an expression") from error
    return int(_value(tree.body, fields))


def _value(node: ast.expr, fields: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=int()):
            return node.value
        case ast.Name(id=name):
            return _field(name, fields)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _combine(op, _value(left, fields), _value(right, fields))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, fields)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _value(body if _value(test, fields) else orelse, fields)
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_value(value, fields) for value in values)
        case ast.BoolOp(op=ast.Or(), values=values):
            return any(_value(value, fields) for value in values)
    raise ValueError(f"{ast.unparse(node)!r} may not stand in an expression of config fields")


def _combine(op: ast.operator, left: Any, right: Any) -> Any:
    try:
        return _BINARY[type(op)](left, right)
    except ZeroDivisionError as error:
        raise ValueError("division by zero in an expression of config fields") from error


def _field(name: str, fields: Mapping[str, Any]) -> Any:
    found = fields.get(name)
    if isinstance(found, bool | int):
        return found
    raise ValueError(f"the config has no whole number named {name!r}")
