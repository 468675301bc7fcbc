"""What may stand outside a product or a derivative, taken out of it.

Laws: `(s * M) @ v => s * (M @ v)` for a number s, `(l * M) @ v => l * (M @ v)` and `(M / l) @ v => (M @ v) / l` for a vector l of
row factors, and `stop_gradient(f(A)) => f(stop_gradient(A))`, so that nothing is kept for a derivative that nobody takes.
"""

from __future__ import annotations

from collections.abc import Callable

from peftref.language.expr import Call, Expr, Name, call, rebuild
from peftref.language.scope import Scope


def pulled(expr: Expr, scope: Scope) -> Expr:
    """The expression with factors of whole rows, and numbers, taken out of matrices that are multiplied with a value per token.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.scope import Leaf, scope_at
    >>> from peftref.language.show import show
    >>> from peftref.language.read_size import parse_size
    >>> scope = scope_at("attention.query", {"m": Leaf("m", (parse_size("d_out"),))}, {})
    >>> show(pulled(parse_expression("(m * W / norm_rows(W)) @ x"), scope))
    'm * (W @ x) / norm_rows(W)'
    """
    match expr:
        case Call("matmul", (matrix, value)) if scope.kind(value).per == "token" and len(scope.kind(value).dims) == 1:
            found = _out(matrix, scope)
            if found is not None:
                inner, around = found
                return around(pulled(Call("matmul", (inner, value)), scope))
    return rebuild(expr, lambda child: pulled(child, scope)) if isinstance(expr, Call) else expr


def _out(matrix: Expr, scope: Scope) -> tuple[Expr, Callable[[Expr], Expr]] | None:
    """A matrix without one of its factors, and what puts that factor around a product."""
    match matrix:
        case Call("neg", (inner,)):
            return inner, lambda product: call("neg", product)
        case Call("mul", (left, right)) if _rows(left, scope):
            return right, lambda product: call("mul", left, product)
        case Call("mul", (left, right)) if _rows(right, scope):
            return left, lambda product: call("mul", right, product)
        case Call("div", (left, right)) if _rows(right, scope):
            return left, lambda product: call("div", product, right)
    return None


def _rows(factor: Expr, scope: Scope) -> bool:
    kind = scope.kind(factor)
    return len(kind.dims) < 2 and kind.per == "none"


def inward(expr: Expr, learning: frozenset[str]) -> Expr:
    """The expression with every stop of a gradient at the names below it that learn.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.show import show
    >>> show(inward(parse_expression("h + stop_gradient(norm(W + B @ A)) * x"), frozenset("AB")))
    'h + norm(W + stop_gradient(B) @ stop_gradient(A)) * x'
    """
    if isinstance(expr, Call) and expr.op == "stop_gradient":
        return _stopped(expr.args[0], learning)
    return rebuild(expr, lambda child: inward(child, learning)) if isinstance(expr, Call) else expr


def _stopped(expr: Expr, learning: frozenset[str]) -> Expr:
    match expr:
        case Name(name):
            return call("stop_gradient", expr) if name in learning else expr
        case Call("stop_gradient" | "steered", (inner, *_)):
            return _stopped(inner, learning)
    return rebuild(expr, lambda child: _stopped(child, learning))
