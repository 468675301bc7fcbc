"""Orthogonal matrices: of a skew one, of reflections, of the columns of a matrix."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from peftref.language.kind import Kind, KindError
from peftref.language.op import Op, Shape
from peftref.language.rules import matrix, square

if TYPE_CHECKING:
    from torch import Tensor

    from peftref.language.op import Array


def _single(value: Tensor) -> Tensor:
    """A value in single precision at least: there are no solvers in half."""
    import torch

    return value.to(torch.promote_types(value.dtype, torch.float32))


def cayley(skew: Tensor) -> Tensor:
    """(I - S) (I + S)^-1, each of a stack [..., n, n]."""
    import torch

    exact = _single(skew)
    eye = torch.eye(skew.shape[-1], dtype=exact.dtype, device=skew.device)
    solved: Tensor = torch.linalg.solve(eye + exact, eye - exact, left=False)
    return solved.to(skew.dtype)


def _cayley(s: Array) -> Array:
    import numpy as np

    if s.ndim > 2:
        return np.stack([_cayley(each) for each in s])
    eye = np.eye(len(s))
    return np.asarray((eye - s) @ np.linalg.inv(eye + s))


def _cayley_flops(args: tuple[Shape, ...], out: Shape, length: int) -> int:
    n = out[-1]
    return math.prod(out[:-2]) * (2 * n**3 // 3 + 2 * n**3)


def _reflections(kind: Kind) -> Kind:
    """Vectors [r, n] give the orthogonal matrix [n, n]."""
    if len(kind.dims) != 2:
        raise KindError(f"householder needs vectors [r, n], and this is {kind.show()}")
    return Kind((kind.dims[1], kind.dims[1]), kind.per)


def householder(u: Tensor) -> Tensor:
    """The product of the reflections at the rows of [r, n], as [n, n]."""
    import torch

    eye = torch.eye(u.shape[1], dtype=u.dtype, device=u.device)
    return eye - u.mT @ (wy(u) @ u)


def _householder(u: Array) -> Array:
    import numpy as np

    result = np.eye(u.shape[1])
    for row in u:
        result = result @ (np.eye(len(row)) - 2 * np.outer(row, row) / (row @ row))
    return result


def _householder_flops(args: tuple[Shape, ...], out: Shape, length: int) -> int:
    r, n = args[0]
    return 2 * r * r * n + 2 * r * n * n


def _triangle(kind: Kind) -> Kind:
    """Vectors [r, n] give the triangular matrix [r, r] of their reflections."""
    if len(kind.dims) != 2:
        raise KindError(f"wy needs vectors [r, n], and this is {kind.show()}")
    return Kind((kind.dims[0], kind.dims[0]), kind.per)


def wy(u: Tensor) -> Tensor:
    """T of the reflections at the rows of [r, n]: their product is I - u^T T u (Schreiber and Van Loan's compact form)."""
    import torch

    exact = _single(u)
    with torch.autocast(u.device.type, enabled=False):
        gram = exact @ exact.mT
    inverse = gram.triu(1) + torch.diag(gram.diagonal() / 2)
    eye = torch.eye(u.shape[0], dtype=exact.dtype, device=u.device)
    found: Tensor = torch.linalg.solve_triangular(inverse, eye, upper=True)
    return found.to(u.dtype)


def _wy(u: Array) -> Array:
    """By its definition: I - H = U^T T U, solved for T."""
    import numpy as np

    inverse = np.linalg.pinv(u)
    return np.asarray(inverse.T @ (np.eye(u.shape[1]) - _householder(u)) @ inverse)


def _wy_flops(args: tuple[Shape, ...], out: Shape, length: int) -> int:
    return 2 * out[0] * math.prod(args[0])


def qr(matrix: Tensor) -> Tensor:
    """Orthonormal columns."""
    import torch

    columns: Tensor = torch.linalg.qr(_single(matrix)).Q
    return columns.to(matrix.dtype)


def _qr(matrix: Array) -> Array:
    """Orthonormal columns by reflections, as LAPACK has their signs: the first reflected column points against the first number."""
    import numpy as np

    n, m = matrix.shape
    rest, result = matrix.copy(), np.eye(n)
    for j in range(min(n - 1, m)):
        u = np.zeros(n)
        u[j:] = rest[j:, j]
        u[j] += math.copysign(np.linalg.norm(u), u[j])
        turn = np.eye(n) - 2 * np.outer(u, u) / (u @ u)
        rest, result = turn @ rest, result @ turn
    return result[:, :m]


def _qr_flops(args: tuple[Shape, ...], out: Shape, length: int) -> int:
    return 4 * out[0] * out[1] * min(out)


def gram_schmidt(matrix: Tensor) -> Tensor:
    """Orthonormal columns, each on the side of the column that it comes from: as in qr, save for its signs, which may jump."""
    import torch

    columns, corner = torch.linalg.qr(_single(matrix))
    side = torch.where(corner.diagonal() < 0, -1.0, 1.0).to(columns.dtype)
    found: Tensor = columns * side
    return found.to(matrix.dtype)


def _gram_schmidt(matrix: Array) -> Array:
    import numpy as np

    columns: list[Array] = []
    for column in matrix.T:
        rest = column - sum(((known @ column) * known for known in columns), np.zeros_like(column))
        columns.append(rest / np.linalg.norm(rest))
    return np.stack(columns, axis=1)


OPS = (
    Op(
        name="cayley", family="orthogonal", about="orthogonal matrix of a skew one, (I - S) (I + S)^-1; each of a stack",
        example="cayley(Q - Q.T)", arity=(1, 1), rule=square, function=cayley, oracle=_cayley, zero="identity",
        flops=_cayley_flops, costly=True, latex=r"\operatorname{{Cayley}}({0})",
    ),
    Op(
        name="householder", family="orthogonal",
        about="product of the reflections at the rows u of [r, n], I - 2 u u^T / |u|^2 each", example="householder(A)",
        arity=(1, 1), rule=_reflections, function=householder, oracle=_householder, flops=_householder_flops, costly=True,
        latex=r"\operatorname{{H}}({0})",
    ),
    Op(
        name="wy", family="orthogonal",
        about="the triangular T of a chain of reflections: householder(U) is I - U.T @ T @ U", example="wy(A)",
        arity=(1, 1), rule=_triangle, function=wy, oracle=_wy, flops=_wy_flops, costly=True, latex=r"\operatorname{{T}}({0})",
    ),
    Op(
        name="qr", family="orthogonal",
        about="orthonormal columns that span those of a matrix, as the QR decomposition has them", example="qr(B)",
        arity=(1, 1), rule=matrix, function=qr, oracle=_qr, opaque=True, flops=_qr_flops, costly=True,
        latex=r"\operatorname{{qr}}({0})",
    ),
    Op(
        name="gram_schmidt", family="orthogonal",
        about="orthonormal columns that span those of a matrix and follow it without a jump: qr with a positive diagonal",
        example="gram_schmidt(B)", arity=(1, 1), rule=matrix, function=gram_schmidt, oracle=_gram_schmidt, opaque=True,
        flops=_qr_flops, costly=True, latex=r"\operatorname{{GS}}({0})",
    ),
)  # fmt: skip
