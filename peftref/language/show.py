"""Tree -> text: canonical infix text with the least parentheses; `parse(show(e)) == e`."""

from __future__ import annotations

from peftref.language.expr import Call, Equation, Expr, Name, Number, Statement, Text

_INFIX = {"add": ("+", 1), "sub": ("-", 1), "mul": ("*", 2), "div": ("/", 2), "floordiv": ("//", 2), "matmul": ("@", 2)}
_UNARY, _POWER, _ATOM = 3, 4, 5


def show(tree: Expr | Equation | Statement) -> str:
    """The canonical text of a tree.

    >>> from peftref.language.parse import parse
    >>> show(parse("h' = (h)+((alpha/r) *B)@ (A @ x)"))
    "h' = h + alpha / r * B @ (A @ x)"
    """
    match tree:
        case Equation(statements):
            return "\n".join(show(statement) for statement in statements)
        case Statement(targets, value):
            left = ", ".join(target.name + "'" * target.primed for target in targets)
            return f"{left} = {_text(value, 0)}"
    return _text(tree, 0)


def _text(expr: Expr, least: int) -> str:
    match expr:
        case Name(name):
            return name
        case Number(value):
            shown = repr(value)
            return f"({shown})" if value < 0 and least > _UNARY else shown
        case Text(value):
            return f'"{value}"'
        case Call("transpose", (inner,)):
            return f"{_text(inner, _ATOM)}.T"
        case Call("neg", (inner,)):
            return _grouped(f"-{_text(inner, _UNARY)}", least > _UNARY)
        case Call("pow", (left, right)):
            return _grouped(f"{_text(left, _ATOM)} ** {_text(right, _UNARY)}", least > _POWER)
        case Call(op, (left, right)) if op in _INFIX:
            symbol, level = _INFIX[op]
            return _grouped(f"{_text(left, level)} {symbol} {_text(right, level + 1)}", least > level)
        case Call(op, args, options):
            operands = [_text(arg, 0) for arg in args] + [f"{key}={_text(value, 0)}" for key, value in options]
            return f"{op}({', '.join(operands)})"


def _grouped(text: str, needed: bool) -> str:
    return f"({text})" if needed else text
