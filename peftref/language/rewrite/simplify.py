"""The arithmetic that needs no running, done."""

from __future__ import annotations

from peftref.language.expr import Call, Expr, Number, rebuild
from peftref.language.rewrite.output import negated


def simplify(expr: Expr) -> Expr:
    """The expression without the arithmetic that needs no running: 0 and 1 in sums and products, numbers with numbers.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.show import show
    >>> show(simplify(parse_expression("h + 0 * B @ A @ x")))
    'h'
    """
    expr = rebuild(expr, simplify)
    match expr:
        case Call("add", (a, Number(0))) | Call("add", (Number(0), a)) | Call("sub", (a, Number(0))):
            return a
        case Call("mul", (Number(1), a)) | Call("mul", (a, Number(1))) | Call("div", (a, Number(1))):
            return a
        case Call("sub", (Number(0), a)):
            return negated(a)
        case Call("mul" | "matmul" | "div" | "kron", (Number(0), _)) | Call("mul" | "matmul" | "kron", (_, Number(0))):
            return Number(0)
        case Call("einsum", (_, *operands)) if Number(0) in operands:
            return Number(0)
        case Call("neg", (Number(value),)):
            return Number(-value)
        case Call("add" | "sub" | "mul" | "div" | "pow" as op, (Number(a), Number(b))) if not (op == "div" and b == 0):
            return Number(_number(op, a, b))
        case Call("sqrt", (Number(value),)) if value >= 0:
            return Number(value**0.5)
    return expr


def _number(op: str, a: float, b: float) -> int | float:
    match op:
        case "add":
            return a + b
        case "sub":
            return a - b
        case "mul":
            return a * b
        case "div":
            return a / b
    return float(a**b)
