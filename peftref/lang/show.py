"""Tree -> text: canonical infix text with the least parentheses, and LaTeX; `parse(show(e)) == e`."""

from __future__ import annotations

from peftref.lang.expr import Call, Equation, Expr, Name, Number, Statement, Text
from peftref.lang.ops import TABLE

_INFIX = {"add": ("+", 1), "sub": ("-", 1), "mul": ("*", 2), "div": ("/", 2), "floordiv": ("//", 2), "matmul": ("@", 2)}
_UNARY, _POWER, _ATOM = 3, 4, 5

_GREEK = frozenset(
    [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "zeta",
        "eta",
        "theta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "pi",
        "rho",
        "sigma",
        "tau",
        "phi",
        "chi",
        "psi",
        "omega",
    ]
)


def show(tree: Expr | Equation | Statement) -> str:
    """The canonical text of a tree.

    >>> from peftref.lang.parse import parse
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


def latex(tree: Expr | Equation | Statement) -> str:
    r"""The tree as LaTeX mathematics.

    >>> from peftref.lang.parse import parse
    >>> latex(parse("h' = h + (alpha / r) * B @ A @ x"))
    "h' = h + \\frac{\\alpha}{r} B A x"
    """
    match tree:
        case Equation(statements):
            return r" \\ ".join(latex(statement) for statement in statements)
        case Statement(targets, value):
            left = ", ".join(_symbol(target.name) + "'" * target.primed for target in targets)
            return f"{left} = {_math(value, 0)}"
    return _math(tree, 0)


def _math(expr: Expr, least: int) -> str:
    match expr:
        case Name(name):
            return _symbol(name)
        case Number(value):
            return f"{value:g}" if isinstance(value, float) else str(value)
        case Text(value):
            escaped = value.replace("->", r"\to ").replace("_", r"\_")
            return rf"\text{{{escaped}}}"
        case Call("transpose", (inner,)):
            return rf"{_math(inner, _ATOM)}^{{\top}}"
        case Call("neg", (inner,)):
            return _paren(f"-{_math(inner, _UNARY)}", least > _UNARY)
        case Call("pow", (left, right)):
            return f"{_math(left, _ATOM)}^{{{_math(right, 0)}}}"
        case Call("div", (left, right)):
            return rf"\frac{{{_math(left, 0)}}}{{{_math(right, 0)}}}"
        case Call("mul", (left, right)):
            joint = " " if _numeric(left) else r" \odot "
            return _paren(f"{_math(left, 2)}{joint}{_math(right, 3)}", least > 2)
        case Call("matmul", (left, right)):
            return _paren(f"{_math(left, 2)} {_math(right, 3)}", least > 2)
        case Call(op, (left, right)) if op in _INFIX:
            symbol, level = _INFIX[op]
            return _paren(f"{_math(left, level)} {symbol} {_math(right, level + 1)}", least > level)
        case Call(op, args):
            shown = [_math(arg, 0) for arg in args]
            row = TABLE.get(op)
            if row is not None and row.latex is not None:
                if "{operands}" in row.latex:
                    return row.latex.replace("{operands}", "; ".join(shown))
                first = [_math(arg, 3) for arg in args]
                infix = row.latex.startswith("{0}")
                return _paren(row.latex.format(*(first if infix else shown)), infix and least > 2)
            name = op.replace("_", r"\_")
            return rf"\operatorname{{{name}}}({', '.join(shown)})"


def _numeric(expr: Expr) -> bool:
    """Whether a factor is a number by its form: a literal, or a quotient or root of settings."""
    match expr:
        case Number():
            return True
        case Call("div", (left, right)):
            return all(isinstance(side, Name | Number) or _numeric(side) for side in (left, right))
        case Call("sqrt", _):
            return True
    return False


def _symbol(name: str) -> str:
    if name in _GREEK:
        return rf"\{name}"
    base, _, rest = name.partition("_")
    if len(base) == 1 and rest:
        return rf"{base}_{{\mathrm{{{rest}}}}}".replace("_{\\mathrm{" + rest, "_{\\mathrm{" + rest.replace("_", r"\_"))
    if len(name) == 1:
        return name
    if len(name) == 2 and name[0].isalpha() and (name[1].isdigit() or name[0].isupper()):
        return f"{name[0]}_{{{name[1]}}}"
    escaped = name.replace("_", r"\_")
    return rf"\mathrm{{{escaped}}}"


def _grouped(text: str, needed: bool) -> str:
    return f"({text})" if needed else text


def _paren(text: str, needed: bool) -> str:
    return rf"\left({text}\right)" if needed else text
