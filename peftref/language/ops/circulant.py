"""circulant: the circulant matrix of a first column; correlate: blocks of them, transposed, applied to a vector."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from peftref.language.kind import Kind, KindError
from peftref.language.op import BOTH, FIRST, Op, Shape

if TYPE_CHECKING:
    from torch import Tensor

    from peftref.language.op import Array

FAST = 200
"""Operations of a matrix product that take as long as one number of a real fast Fourier transform, there and written (measured)."""


def _circulant_rule(kind: Kind) -> Kind:
    """A first column [..., n] gives the circulant matrix [..., n, n]."""
    if not kind.dims:
        raise KindError("circulant needs a vector, and this is a number")
    return Kind((*kind.dims, kind.dims[-1]), kind.per)


def circulant(column: Tensor) -> Tensor:
    """A first column [..., n] to [..., n, n]."""
    import torch

    n = column.shape[-1]
    at = torch.arange(n, device=column.device)
    return column[..., (at[:, None] - at) % n]


def _circulant(column: Array) -> Array:
    import numpy as np

    if column.ndim > 1:
        return np.stack([_circulant(each) for each in column])
    return np.stack([np.roll(column, i) for i in range(len(column))], axis=1)


def _correlate_rule(columns: Kind, vector: Kind) -> Kind:
    """Columns [m, n, b] and a vector [n b] give [m b]."""
    if len(columns.dims) != 3 or columns.per != "none":
        raise KindError(f"correlate needs columns [m, n, b], and this is {columns.show()}")
    m, n, b = columns.dims
    if vector.dims != (n * b,):
        raise KindError(f"correlate of {columns.show()} acts on {(n * b).show()} numbers, not on {vector.show()}")
    return Kind((m * b,), vector.per)


def correlate(columns: Tensor, x: Tensor) -> Tensor:
    """Columns [m, n, b] of circulant matrices, each transposed, applied to [..., n b]: [..., m b]."""
    import torch

    blocks = x.reshape(*x.shape[:-1], *columns.shape[1:])
    return torch.einsum("mnji, ...nj -> ...mi", circulant(columns), blocks).flatten(-2)


def _correlate(columns: Array, vector: Array) -> Array:
    import numpy as np

    parts = vector.reshape(-1, columns.shape[2])
    return np.concatenate([sum(_circulant(w).T @ x for w, x in zip(row, parts, strict=True)) for row in columns])


def _flops(args: tuple[Shape, ...], out: Shape, length: int) -> int:
    """As its fast form takes."""
    columns, vector = args
    return 4 * math.prod(columns) + FAST * (vector[0] + out[0])


OPS = (
    Op(
        name="circulant", family="structure", about="circulant matrix of a first column; each of a stack",
        example="circulant(l)", arity=(1, 1), rule=_circulant_rule, function=circulant, oracle=_circulant, linear=FIRST,
        vanishes=FIRST, latex=r"\operatorname{{circ}}({0})",
    ),
    Op(
        name="correlate", family="contraction",
        about="circular correlation, block by block: the transposed circulant matrices of columns [m, n, b] applied to a vector [n b]",
        example="correlate(M, h)", arity=(2, 2), rule=_correlate_rule, function=correlate, oracle=_correlate, linear=BOTH,
        vanishes=BOTH, flops=_flops, costly=True, latex=r"{0} \star {1}",
    ),
)  # fmt: skip
