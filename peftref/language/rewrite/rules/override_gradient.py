"""A leaf with its own value and the gradient of another one: the other value is never computed, the gradient is steered instead.

Law: `M(U) + stop_gradient(U - M(U)) => steered(U, M^T(U))` for a trained leaf U and a map M that is linear in it and made of
frozen ones. The value is U; what M does to the gradient is the map the other way round, at the gradient in place of U.
"""

from __future__ import annotations

from peftref.language.expr import Call, Expr, Name, call, names, rebuild
from peftref.language.rewrite.rule import Rule
from peftref.language.scope import Scope


def override_gradient(expr: Expr, scope: Scope, learning: frozenset[str]) -> Expr:
    """The expression without values of which only the gradient is wanted. learning: the names that need a gradient.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.scope import Leaf, scope_at
    >>> from peftref.language.show import show
    >>> from peftref.language.read_size import parse_size
    >>> leaf = lambda name, *dims: Leaf(name, tuple(parse_size(dim) for dim in dims))
    >>> scope = scope_at("attention.query", {"A": leaf("A", "r", "d_in"), "M": leaf("M", "r", "r")}, {"r": 8})
    >>> expr = parse_expression("(M @ A + stop_gradient(A - M @ A)) @ x")
    >>> show(override_gradient(expr, scope, frozenset("Ax")))
    'steered(A, M.T @ A) @ x'
    """
    match expr:
        case Call("add", (made, Call("stop_gradient", (Call("sub", (Name(leaf) as value, again)),)))) if made == again:
            others = names(made) - {leaf}
            entry = scope.entry(leaf)
            if entry is not None and entry.role == "leaf" and leaf in learning and not others & learning:
                back = transposed(made, value, value, scope)
                if back is not None:
                    return call("steered", value, back)
    return rebuild(expr, lambda part: override_gradient(part, scope, learning)) if isinstance(expr, Call) else expr


def transposed(expr: Expr, value: Name, of: Expr, scope: Scope) -> Expr | None:
    """The map from a value to an expression, transposed, at `of`; None where it is not seen to be linear in the value.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.scope import Leaf, scope_at
    >>> from peftref.language.show import show
    >>> from peftref.language.read_size import parse_size
    >>> leaf = lambda name, *dims: Leaf(name, tuple(parse_size(dim) for dim in dims))
    >>> scope = scope_at("ffn", {"U": leaf("U", "d_model", "r"), "L": leaf("L", "d_model", "n")}, {"r": 8, "n": 4})
    >>> show(transposed(parse_expression("U - L @ (L.T @ U)"), Name("U"), Name("U"), scope))
    'U - L @ (L.T @ U)'
    """
    match expr:
        case Name():
            return of if expr == value else None
        case Call("neg", (inner,)):
            back = transposed(inner, value, of, scope)
            return None if back is None else call("neg", back)
        case Call("add" | "sub" as op, (left, right)):
            first, second = (transposed(side, value, of, scope) for side in (left, right))
            return None if first is None or second is None else call(op, first, second)
        case Call("transpose", (inner,)):
            return transposed(inner, value, _across(of), scope)
        case Call("mul", (factor, inner)) if _number(factor, value, scope):
            return transposed(inner, value, call("mul", factor, of), scope)
        case Call("mul" | "div" as op, (inner, factor)) if _number(factor, value, scope):
            return transposed(inner, value, call(op, of, factor), scope)
        case Call("matmul", (left, right)) if value.name not in names(left):
            return transposed(right, value, call("matmul", _across(left), of), scope)
        case Call("matmul", (left, right)) if value.name not in names(right) and len(scope.kind(right).dims) == 2:
            return transposed(left, value, call("matmul", of, _across(right)), scope)
    return None


def _number(factor: Expr, value: Name, scope: Scope) -> bool:
    return value.name not in names(factor) and not scope.kind(factor).dims


def _across(matrix: Expr) -> Expr:
    match matrix:
        case Call("transpose", (inner,)):
            return inner
    return call("transpose", matrix)


RULE = Rule(
    "turn the gradient in place of a value that is wanted for its gradient only",
    "always",
    lambda expr, meter: override_gradient(expr, meter.scope, meter.load.learning),
)
