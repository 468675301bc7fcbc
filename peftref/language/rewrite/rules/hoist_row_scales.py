"""What scales the rows of a matrix is taken out of its products.

Laws: `(s * M) @ v => s * (M @ v)` for a number s, `(l * M) @ v => l * (M @ v)` and `(M / l) @ v => (M @ v) / l` for a vector l of
row factors.
"""

from __future__ import annotations

from collections.abc import Callable

from peftref.language.expr import Call, Expr, call, rebuild
from peftref.language.rewrite.rule import Rule
from peftref.language.scope import Scope


def hoist_row_scales(expr: Expr, scope: Scope) -> Expr:
    """The expression with factors of whole rows, and numbers, taken out of matrices that are multiplied with a value per token.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.scope import Leaf, scope_at
    >>> from peftref.language.show import show
    >>> from peftref.language.read_size import parse_size
    >>> scope = scope_at("attention.query", {"m": Leaf("m", (parse_size("d_out"),))}, {})
    >>> show(hoist_row_scales(parse_expression("(m * W / norm_rows(W)) @ x"), scope))
    'm * (W @ x) / norm_rows(W)'
    """
    match expr:
        case Call("matmul", (matrix, value)) if scope.kind(value).per == "token" and len(scope.kind(value).dims) == 1:
            found = _out(matrix, scope)
            if found is not None:
                inner, around = found
                return around(hoist_row_scales(Call("matmul", (inner, value)), scope))
    return rebuild(expr, lambda child: hoist_row_scales(child, scope)) if isinstance(expr, Call) else expr


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


RULE = Rule("take factors of rows out", "form", lambda expr, meter: hoist_row_scales(expr, meter.scope))
