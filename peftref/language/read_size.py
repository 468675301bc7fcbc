"""Sizes from their texts: whole numbers, symbols, + - * / //, powers, `ceil(a / b)`, `min` and `max`."""

from __future__ import annotations

from collections.abc import Iterable

from peftref.core.problem import PeftrefError, Problem, nearest
from peftref.language.expr import Call, Expr, Name, Number
from peftref.language.parse import Locate, parse_expression, plain_locate
from peftref.language.size import Size


def parse_size(value: str | int, symbols: Iterable[str] | None = None, locate: Locate | None = None) -> Size:
    """A size from its text; with `symbols`, only those may occur. Raises PeftrefError `syntax` or `unknown-size`.

    >>> parse_size("2 * r + d_in // 4").show()
    '(d_in // 4) + 2 * r'
    >>> parse_size("ceil(d_in / r)").show()
    'ceil(d_in / r)'
    """
    text = str(value)
    where = locate or plain_locate(text, "size")
    known = None if symbols is None else frozenset(symbols)
    return _size(parse_expression(text, where), known, where)


def size_of(expr: Expr) -> Size:
    """The size that an expression stands for; raises PeftrefError where it is none."""
    return _size(expr, None, plain_locate("", "size"))


_FUNCTIONS = {"floordiv": 2, "ceil": 1, "min": 2, "max": 2}


def _size(expr: Expr, known: frozenset[str] | None, where: Locate) -> Size:
    match expr:
        case Number(value) if isinstance(value, int):
            return Size.of(value)
        case Name(name):
            if known is not None and name not in known:
                raise PeftrefError(
                    [
                        Problem(
                            "unknown-size",
                            f"there is no size or setting {name} here",
                            where(*expr.span),
                            hint=nearest(name, known),
                        )
                    ]
                )
            return Size.symbol(name)
        case Call("neg", (inner,)):
            return Size.of(-1) * _size(inner, known, where)
        case Call(op, (left, right)) if op in ("add", "sub", "mul", "div"):
            a, b = _size(left, known, where), _size(right, known, where)
            if op == "div" and b.number() == 0:
                raise PeftrefError([Problem("syntax", "a size is divided by zero", where(*expr.span))])
            return {"add": a.__add__, "sub": a.__sub__, "mul": a.__mul__, "div": a.__truediv__}[op](b)
        case Call("pow", (left, Number(power))) if isinstance(power, int) and 0 <= power <= 4:
            result = Size.of(1)
            for _ in range(power):
                result = result * _size(left, known, where)
            return result
        case Call("ceil", (Call("div", (left, right)),)):
            return Size.rounded("ceil", _size(left, known, where), _size(right, known, where))
        case Call(op, args) if op in _FUNCTIONS and len(args) == _FUNCTIONS[op] and op != "ceil":
            return Size.rounded(op, *(_size(arg, known, where) for arg in args))
    raise PeftrefError(
        [
            Problem(
                "syntax",
                "this is no size",
                where(*expr.span),
                hint="sizes are whole numbers, symbols, + - * / //, ceil(a / b), min(a, b), max(a, b)",
            )
        ]
    )
