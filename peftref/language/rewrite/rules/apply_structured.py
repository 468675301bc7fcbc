"""Structured matrices applied to what they meet, and never formed.

Laws: `householder(U) @ v => v - U.T @ (wy(U) @ (U @ v))`, `M @ householder(U) => M - ((M @ U.T) @ wy(U)) @ U`, the same
transposed, and for a value v per token `butterfly(Q) @ v => butterfly(Q, v)`, blocks of `circulant(w).T` times v =>
`correlate(w, v)`, `ifft2(scatter(c, at, n=n, m=m)) @ v => fourier(c, at, v, n=n)`, `scatter(c, at, n=n, m=m) @ v =>
sparse(c, at, v, n=n)`, `scatter(V, at, n=n).T @ v => V.T @ gather(v, at)`.
"""

from __future__ import annotations

from peftref.language import einsum
from peftref.language.expr import Call, Expr, Number, Text, call, rebuild
from peftref.language.rewrite.rule import Rule
from peftref.language.scope import Scope


def apply_structured(expr: Expr, scope: Scope) -> Expr:
    """The expression with every structured matrix applied to the other factor of its product.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.scope import Leaf, scope_at
    >>> from peftref.language.show import show
    >>> from peftref.language.read_size import parse_size
    >>> scope = scope_at("attention.query", {"U": Leaf("U", (parse_size("r"), parse_size("d_in")))}, {"r": 8})
    >>> show(apply_structured(parse_expression("W @ (householder(U) @ x)"), scope))
    'W @ (x - U.T @ (wy(U) @ (U @ x)))'
    """
    if isinstance(expr, Call):
        expr = rebuild(expr, lambda child: apply_structured(child, scope))
    match expr:
        case Call("matmul", (left, right)):
            return _left(left, right, scope) or _right(left, right) or expr
    return expr


def _left(matrix: Expr, value: Expr, scope: Scope) -> Expr | None:
    back, inner = _untransposed(matrix)
    match inner:
        case Call("householder", (rows,)):
            core = _turned(call("wy", rows)) if back else call("wy", rows)
            return call("sub", value, call("matmul", _turned(rows), call("matmul", core, call("matmul", rows, value))))
        case Call("einsum", (Text(text), Call("transpose", (Call("circulant", (columns,)),)))) if not back and _blocked(
            text
        ):
            return call("correlate", columns, value) if len(scope.kind(value).dims) == 1 else None
        case Call("ifft2", (Call("scatter", (values, at), options),)) if not back and len(scope.kind(value).dims) == 1:
            return Call("fourier", (values, at, value), tuple(each for each in options if each[0] == "n"))
        case Call("scatter", (values, at), options) if not back and _vector(value, scope):
            return Call("sparse", (values, at, value), tuple(each for each in options if each[0] == "n"))
        case Call("scatter", (rows, at)) if back and _vector(value, scope):
            return call("matmul", _turned(rows), call("gather", value, at))
        case Call("butterfly", (blocks,)) if len(scope.kind(value).dims) == 1:
            return Call("butterfly", (blocks, value), (("back", Number(1)),) if back else ())
    return None


def _vector(value: Expr, scope: Scope) -> bool:
    kind = scope.kind(value)
    return len(kind.dims) == 1 and kind.per == "token"


def _blocked(text: str) -> bool:
    """Whether a pattern puts a grid of matrices [m, n, a, b] together as one [m a, n b]."""
    match einsum.parse_pattern(text).operands:
        case (((m,), (n,), (a,), (b,)),):
            return einsum.parse_pattern(text).result == ((m, a), (n, b))
    return False


def _right(value: Expr, matrix: Expr) -> Expr | None:
    back, inner = _untransposed(matrix)
    match inner:
        case Call("householder", (rows,)):
            core = _turned(call("wy", rows)) if back else call("wy", rows)
            through = call("matmul", call("matmul", value, _turned(rows)), core)
            return call("sub", value, call("matmul", through, rows))
    return None


def _untransposed(matrix: Expr) -> tuple[bool, Expr]:
    match matrix:
        case Call("transpose", (inner,)):
            return True, inner
    return False, matrix


def _turned(matrix: Expr) -> Expr:
    back, inner = _untransposed(matrix)
    return inner if back else call("transpose", matrix)


RULE = Rule(
    "apply a structured matrix without forming it", "form", lambda expr, meter: apply_structured(expr, meter.scope)
)
