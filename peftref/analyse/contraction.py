"""What a contraction is when factors of it are known: ones, the identity matrix, and contractions themselves."""

from __future__ import annotations

from peftref.language.einsum import Axis, Pattern, parse_pattern
from peftref.language.expr import Call, Expr, Number, Text

Factor = tuple[tuple[Axis, ...], Expr]


def contraction(expr: Call, eye: Expr) -> Expr:
    """An einsum without factors that change nothing; what is left as it is, by itself. eye: what stands for the identity matrix.

    Laws: ones without an axis of their own are left out; the identity matrix makes its two axes one; a contraction of a
    contraction is one.

    >>> from peftref.language.expr import Name
    >>> from peftref.language.parse import parse_expression
    >>> inner = parse_expression('einsum("n k, p q -> p q n k", 1, I)')
    >>> outer = Call("einsum", (Text("p q n k, (n q k) -> (n p k)"), inner, Name("h")))
    >>> contraction(outer, Name("I"))
    Name(name='h')
    """
    text, *args = expr.args
    if not isinstance(text, Text):
        return expr
    pattern = parse_pattern(text.value)
    factors = [each for pair in zip(pattern.operands, args, strict=True) for each in _inside(*pair)]
    without_ones = [(axes, factor) for axes, factor in factors if factor != Number(1)]
    if _indices(without_ones) >= _indices(factors):
        factors = without_ones
    result = pattern.result
    for eyed in [each for each in factors if each[1] == eye]:
        (row,), (column,) = eyed[0]
        others = [(_renamed(axes, {column: row}), factor) for axes, factor in factors if (axes, factor) != eyed]
        if row in _indices(others) and all(column not in axis for axis in result):
            factors = others
    if len(factors) == 1 and factors[0][0] == result:
        return factors[0][1]
    made = Pattern(tuple(axes for axes, _ in factors), result)
    known = set(made.indices())
    options = tuple((name, size) for name, size in expr.options if name in known)
    return Call("einsum", (Text(made.show()), *(factor for _, factor in factors)), options)


def _inside(axes: tuple[Axis, ...], factor: Expr) -> list[Factor]:
    """The factors of a factor that is a contraction with single axes in its result; else itself."""
    match factor:
        case Call("einsum", (Text(text), *args)) if not factor.options:
            inner = parse_pattern(text)
            if all(len(axis) == 1 for axis in (*inner.result, *axes)):
                names = {index: f"{index}_{'_'.join(axis[0] for axis in axes)}" for index in inner.indices()}
                names |= {own: outer for (own,), (outer,) in zip(inner.result, axes, strict=True)}
                return [(_renamed(each, names), arg) for each, arg in zip(inner.operands, args, strict=True)]
    return [(axes, factor)]


def _indices(factors: list[Factor]) -> set[str]:
    return {index for axes, _ in factors for axis in axes for index in axis}


def _renamed(axes: tuple[Axis, ...], names: dict[str, str]) -> tuple[Axis, ...]:
    return tuple(tuple(names.get(index, index) for index in axis) for axis in axes)
