"""From replaced inputs to the replaced output: `W' = W + D` at a linear slot becomes `h' = h + D @ x`.

Laws: `(W + D) @ x + b => h + D @ x`, where D may be a sum, `W @ x + (b + e) => h + e`, `P @ (Q + R) @ x => P @ Q @ x + P @ R @ x` where P is the sum.
"""

from __future__ import annotations

from collections.abc import Mapping

from peftref.language.expr import Call, Expr, Name, Number, call


def addends(expr: Expr) -> tuple[Expr, ...]:
    """The terms of a sum, in order; a subtracted term is negated.

    >>> from peftref.language.parse import parse_expression
    >>> len(addends(parse_expression("W + s * B @ A - C")))
    3
    """
    match expr:
        case Call("add", (left, right)):
            return (*addends(left), *addends(right))
        case Call("sub", (left, right)):
            return (*addends(left), *(negated(term) for term in addends(right)))
    return (expr,)


def negated(expr: Expr) -> Expr:
    """The expression with its sign changed."""
    match expr:
        case Call("neg", (inner,)):
            return inner
        case Number(value):
            return Number(-value)
    return call("neg", expr)


def total(terms: tuple[Expr, ...]) -> Expr:
    """The sum of some terms; no term at all is 0."""
    if not terms:
        return Number(0)
    result = terms[0]
    for term in terms[1:]:
        result = (
            call("sub", result, term.args[0])
            if isinstance(term, Call) and term.op == "neg"
            else call("add", result, term)
        )
    return result


def output(values: Mapping[str, Expr], *, bias: bool = True) -> Expr:
    """The value of h' at a linear slot, from whichever of h', or x', W', b' an equation sets.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.show import show
    >>> show(output({"W": parse_expression("W + s * B @ A")}))
    'h + s * B @ A @ x'
    """
    if "h" in values:
        return values["h"]
    x = values.get("x", Name("x"))
    weight = addends(values.get("W", Name("W")))
    shift = addends(values.get("b", Name("b")))
    if Name("W") in weight and Name("b") in shift and x == Name("x"):
        rest = _without(weight, Name("W"))
        added = (_times(total(rest), x),) if rest else ()
        return total((Name("h"), *added, *_without(shift, Name("b"))))
    terms = (call("matmul", values.get("W", Name("W")), x),)
    return total((*terms, *(term for term in shift if bias or term != Name("b"))))


def _without(terms: tuple[Expr, ...], term: Expr) -> tuple[Expr, ...]:
    at = terms.index(term)
    return (*terms[:at], *terms[at + 1 :])


def _times(matrix: Expr, x: Expr) -> Expr:
    if isinstance(matrix, Call) and matrix.op == "neg":
        return call("neg", _times(matrix.args[0], x))
    return call("matmul", matrix, x)
