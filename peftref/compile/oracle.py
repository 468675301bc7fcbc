"""The oracle: every op by its definition, literally, in double precision, column by column, forming every matrix.

It shares nothing with the emitter and is slow on purpose; compiled modules, merges and rewrites are held against it.
A value per token is an array [batch, tokens, *shape], one per sample [batch, 1, *shape], any other [*shape].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftref.lang import einsum
from peftref.lang.expr import Call, Expr, Name, Number, Text
from peftref.lang.kind import Kind
from peftref.lang.scope import Scope

Array = NDArray[np.float64]

_erf = np.vectorize(math.erf)


@dataclass(frozen=True)
class Oracle:
    """Evaluates expressions of a scope on given values; dropout is off, and `causal` says whether attend looks ahead.

    >>> from peftref.lang.parse import parse_expression
    >>> from peftref.lang.scope import scope_at
    >>> oracle = Oracle(scope_at("attention.query", {}, {}), {"h": np.ones((1, 2, 3))})
    >>> oracle.evaluate(parse_expression("2 * h"))[0, 0].tolist()
    [2.0, 2.0, 2.0]
    """

    scope: Scope
    values: Mapping[str, Array | float]
    causal: bool = False

    def evaluate(self, expr: Expr) -> Array:
        """The value of an expression."""
        match expr:
            case Number(value):
                return np.asarray(value, dtype=np.float64)
            case Name(name):
                return np.asarray(self.values[name], dtype=np.float64)
            case Text():
                raise ValueError("a text has no value")
            case Call():
                return self._call(expr)

    def _call(self, expr: Call) -> Array:
        operands = [arg for arg in expr.args if not isinstance(arg, Text)]
        kinds = [self.scope.kind(arg) for arg in operands]
        values = [self.evaluate(arg) for arg in operands]
        if expr.op == "concat":
            return self._concat(values, kinds)
        if expr.op == "attend":
            heads = dict(expr.options).get("heads", Number(1))
            return self._attend(values, kinds, int(float(self.evaluate(heads))))
        if expr.op == "edges":
            return self._edges(values[0], **{name: float(self.evaluate(value)) for name, value in expr.options})
        if expr.op == "mean_tokens":
            return np.asarray(values[0].mean(axis=1, keepdims=True))
        return self._each(expr, values, kinds)

    def _each(self, expr: Call, values: list[Array], kinds: list[Kind]) -> Array:
        """An op that acts on each token by itself: applied in a loop, one column at a time."""
        define = self._definition(expr)
        if all(kind.per == "none" for kind in kinds):
            return np.asarray(define(*values), dtype=np.float64)
        batch, tokens = np.broadcast_shapes(
            *(value.shape[:2] for value, kind in zip(values, kinds, strict=True) if kind.per != "none")
        )
        rows = []
        for i in range(batch):
            row = []
            for j in range(tokens):
                here = [
                    value if kind.per == "none" else value[i % value.shape[0], j % value.shape[1]]
                    for value, kind in zip(values, kinds, strict=True)
                ]
                row.append(define(*here))
            rows.append(row)
        return np.asarray(rows, dtype=np.float64)

    @staticmethod
    def _edges(h: Array, first: float = 0, last: float = 0) -> Array:
        tokens = h.shape[1]
        return np.asarray([[float(i < first or i >= tokens - last) for i in range(tokens)]] * h.shape[0])

    def _definition(self, expr: Call) -> Callable[..., Any]:
        if expr.op != "einsum":
            options = {name: round(float(self.evaluate(value))) for name, value in expr.options}
            return partial(DEFINITIONS[expr.op], **options)
        text = expr.args[0]
        if not isinstance(text, Text):
            raise ValueError("an einsum begins with its pattern")
        pattern = einsum.parse_pattern(text.value)
        given = {name: round(float(self.evaluate(value))) for name, value in expr.options}
        return lambda *operands: _einsum(pattern, operands, given)

    @staticmethod
    def _concat(values: list[Array], kinds: list[Kind]) -> Array:
        batch = next(value.shape[0] for value, kind in zip(values, kinds, strict=True) if kind.per == "token")
        parts = [
            value if kind.per == "token" else np.broadcast_to(value, (batch, *value.shape))
            for value, kind in zip(values, kinds, strict=True)
        ]
        return np.concatenate(parts, axis=1)

    def _attend(self, values: list[Array], kinds: list[Kind], heads: int) -> Array:
        query, key, value = values
        flat = len(kinds[0].dims) == 1
        batch, tokens = query.shape[:2]
        if kinds[1].per == "none":
            key, value = (np.broadcast_to(each, (batch, *each.shape)) for each in (key, value))
        if flat:
            query, key, value = (each.reshape(*each.shape[:2], heads, -1) for each in (query, key, value))
        groups = query.shape[2] // key.shape[2]
        result = np.zeros((batch, tokens, query.shape[2], value.shape[-1]))
        for i in range(batch):
            for n in range(query.shape[2]):
                for t in range(tokens):
                    seen = t + 1 if self.causal and kinds[1].per == "token" else key.shape[1]
                    logits = key[i, :seen, n // groups] @ query[i, t, n] / math.sqrt(query.shape[-1])
                    weights = np.exp(logits - logits.max())
                    result[i, t, n] = weights / weights.sum() @ value[i, :seen, n // groups]
        return np.asarray(result.reshape(batch, tokens, -1) if flat else result)


def _column(f: Callable[..., Any]) -> Callable[..., Any]:
    """Elementwise with the rule for columns: [n] against [n, m] acts on every column."""

    def apply(*values: Array) -> Any:
        most = max(np.ndim(value) for value in values)
        return f(
            *(
                np.reshape(value, np.shape(value) + (1,) * (most - np.ndim(value))) if np.ndim(value) else value
                for value in values
            )
        )

    return apply


def _cayley(s: Array) -> Array:
    if s.ndim > 2:
        return np.stack([_cayley(each) for each in s])
    eye = np.eye(len(s))
    return np.asarray((eye - s) @ np.linalg.inv(eye + s))


def _householder(u: Array) -> Array:
    result = np.eye(u.shape[1])
    for row in u:
        result = result @ (np.eye(len(row)) - 2 * np.outer(row, row) / (row @ row))
    return result


def _block_diag(stack: Array) -> Array:
    n, a, b = stack.shape
    result = np.zeros((n * a, n * b))
    for i, block in enumerate(stack):
        result[i * a : (i + 1) * a, i * b : (i + 1) * b] = block
    return result


def _kron(a: Array, b: Array) -> Array:
    return np.stack([_kron(x, y) for x, y in zip(a, b, strict=True)]) if a.ndim > 2 else np.asarray(np.kron(a, b))


def _matmul(a: Array, b: Array) -> Array:
    if a.ndim == 2:
        return np.asarray(a @ b)
    return np.stack([_matmul(x, y) for x, y in zip(a, b, strict=True)])


def _layer_norm(h: Array, gain: Array | float = 1.0, shift: Array | float = 0.0) -> Array:
    return np.asarray((h - h.mean()) / np.sqrt(h.var() + 1e-5) * gain + shift)


def _skew(above: Array, n: int) -> Array:
    if above.ndim > 1:
        return np.stack([_skew(each, n) for each in above])
    result, numbers = np.zeros((n, n)), iter(above)
    for i in range(n):
        for j in range(i + 1, n):
            result[i, j] = next(numbers)
            result[j, i] = -result[i, j]
    return result


def _wy(u: Array) -> Array:
    """By its definition: I - H = U^T T U, solved for T."""
    inverse = np.linalg.pinv(u)
    return np.asarray(inverse.T @ (np.eye(u.shape[1]) - _householder(u)) @ inverse)


def _butterfly(blocks: Array, vector: Array | None = None, back: int = 0) -> Array:
    """Each stage moves the halves of the blocks together, one by one, acts, and moves them back."""
    m, n, b, _ = blocks.shape
    result = np.eye(n * b)
    for j in range(m):
        move, half, to = np.zeros((n * b, n * b)), b // 2, 0
        for first in range(0, 2 * n, 2 ** (j + 1)):
            for odd in (0, 1):
                for piece in range(first + odd, first + 2 ** (j + 1), 2):
                    for k in range(half):
                        move[to, piece * half + k] = 1
                        to += 1
        result = move @ _block_diag(blocks[j]) @ move.T @ result
    result = result.T if back else result
    return result if vector is None else result @ vector


def _circulant(column: Array) -> Array:
    if column.ndim > 1:
        return np.stack([_circulant(each) for each in column])
    return np.stack([np.roll(column, i) for i in range(len(column))], axis=1)


def _scatter(values: Array, at: Array, n: int, m: int = 0) -> Array:
    result = np.zeros((n * m if m else n, *values.shape[1:]))
    for value, place in zip(values, at, strict=True):
        result[int(place)] += value
    return result.reshape(n, m) if m else result


def _ifft2(matrix: Array) -> Array:
    n, m = matrix.shape
    left = np.exp(2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) / n
    right = np.exp(2j * np.pi * np.outer(np.arange(m), np.arange(m)) / m) / m
    return np.asarray((left @ matrix @ right).real)


def _gram_schmidt(matrix: Array) -> Array:
    """Orthonormal columns by reflections, as LAPACK has their signs: the first reflected column points against the first number."""
    n, m = matrix.shape
    rest, result = matrix.copy(), np.eye(n)
    for j in range(min(n - 1, m)):
        u = np.zeros(n)
        u[j:] = rest[j:, j]
        u[j] += math.copysign(np.linalg.norm(u), u[j])
        turn = np.eye(n) - 2 * np.outer(u, u) / (u @ u)
        rest, result = turn @ rest, result @ turn
    return result[:, :m]


def _top_softmax(logits: Array, k: int) -> Array:
    if logits.ndim > 1:
        return np.stack([_top_softmax(each, k) for each in logits])
    result, kept = np.zeros_like(logits), np.argsort(-logits)[:k]
    result[kept] = _softmax(logits[kept])
    return result


def _softmax(v: Array) -> Array:
    e = np.exp(v - v.max())
    return np.asarray(e / e.sum())


def _part(z: Array, index: float, n: float) -> Array:
    width = len(z) // int(n)
    return z[int(index) * width : (int(index) + 1) * width]


def _sigmoid(v: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-v)))


DEFINITIONS: Mapping[str, Callable[..., Any]] = {
    "add": _column(np.add),
    "sub": _column(np.subtract),
    "mul": _column(np.multiply),
    "div": _column(np.divide),
    "pow": _column(np.power),
    "neg": np.negative,
    "matmul": _matmul,
    "transpose": lambda a: np.swapaxes(a, -1, -2),
    "kron": _kron,
    "block_diag": _block_diag,
    "diag": np.diag,
    "sum": lambda a: a.sum(axis=0),
    "part": _part,
    "relu": lambda v: np.maximum(v, 0),
    "gelu": lambda v: v * (1 + _erf(v / math.sqrt(2))) / 2,
    "silu": lambda v: v * _sigmoid(v),
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "exp": np.exp,
    "softplus": lambda v: np.log1p(np.exp(v)),
    "cos": np.cos,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "clamp": _column(np.maximum),
    "softmax": _softmax,
    "norm": lambda a: math.sqrt((a * a).sum()),
    "norm_rows": lambda a: np.sqrt((a * a).sum(axis=1)),
    "norm_cols": lambda a: np.sqrt((a * a).sum(axis=0)),
    "layer_norm": _layer_norm,
    "cayley": _cayley,
    "householder": _householder,
    "qr": _gram_schmidt,
    "skew": _skew,
    "butterfly": _butterfly,
    "wy": _wy,
    "circulant": _circulant,
    "scatter": _scatter,
    "tile": lambda value, n: np.stack([value] * n),
    "gather": lambda values, at: values[np.asarray(at, dtype=int)],
    "ifft2": _ifft2,
    "top_softmax": _top_softmax,
    "sample": lambda mean, _: mean,
    "dropout": lambda v, *_: v,
    "stop_gradient": lambda v: v,
}


def _einsum(pattern: einsum.Pattern, operands: tuple[Array, ...], given: Mapping[str, int]) -> Array:
    """Groups of axes are cut by the sizes of single ones; then numpy's own einsum; then the result is grouped."""
    sizes: dict[str, int] = dict(given)
    for axes, value in zip(pattern.operands, operands, strict=True):
        for axis, extent in zip(axes, value.shape, strict=True):
            if len(axis) == 1:
                sizes[axis[0]] = extent
    for axes, value in zip(pattern.operands, operands, strict=True):
        for axis, extent in zip(axes, value.shape, strict=True):
            missing = [name for name in axis if name not in sizes]
            if missing:
                known = math.prod(sizes[name] for name in axis if name in sizes)
                sizes[missing[0]] = extent // known
    cut = [
        value.reshape([sizes[name] for axis in axes for name in axis])
        for axes, value in zip(pattern.operands, operands, strict=True)
    ]
    letters = {name: chr(97 + i) for i, name in enumerate(pattern.indices())}
    words = ["".join(letters[name] for axis in axes for name in axis) for axes in (*pattern.operands, pattern.result)]
    result = np.einsum(",".join(words[:-1]) + "->" + words[-1], *cut)
    return np.asarray(result).reshape([math.prod(sizes[name] for name in axis) for axis in pattern.result])
