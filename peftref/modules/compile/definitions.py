"""Every op by its definition, literally, on arrays of one token: what the oracle evaluates expressions with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_erf = np.vectorize(math.erf)


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


def _correlate(columns: Array, vector: Array) -> Array:
    _, _, b = columns.shape
    parts = vector.reshape(-1, b)
    return np.concatenate([sum(_circulant(w).T @ x for w, x in zip(row, parts, strict=True)) for row in columns])


def _fourier(values: Array, at: Array, vector: Array, n: int) -> Array:
    return np.asarray(np.fft.ifft2(_scatter(values, at, n, len(vector))).real @ vector)


def _sparse(values: Array, at: Array, vector: Array, n: int) -> Array:
    return np.asarray(_scatter(values, at, n, len(vector)) @ vector)


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


def _qr(matrix: Array) -> Array:
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


def _gram_schmidt(matrix: Array) -> Array:
    columns: list[Array] = []
    for column in matrix.T:
        rest = column - sum(((known @ column) * known for known in columns), np.zeros_like(column))
        columns.append(rest / np.linalg.norm(rest))
    return np.stack(columns, axis=1)


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
    "qr": _qr,
    "gram_schmidt": _gram_schmidt,
    "skew": _skew,
    "butterfly": _butterfly,
    "wy": _wy,
    "circulant": _circulant,
    "correlate": _correlate,
    "fourier": _fourier,
    "scatter": _scatter,
    "sparse": _sparse,
    "join": lambda *parts: np.concatenate(parts),
    "tile": lambda value, n: np.stack([value] * n),
    "gather": lambda values, at: values[np.asarray(at, dtype=int)],
    "ifft2": _ifft2,
    "top_softmax": _top_softmax,
    "sample": lambda mean, _: mean,
    "relaxed": lambda v: 1 / (1 + np.exp(-v)),
    "dropout": lambda v, *_: v,
    "stop_gradient": lambda v: v,
    "steered": lambda v, _: v,
}
