"""Norms: of a whole value, of rows, of columns."""

from __future__ import annotations

from peftref.language.kind import Kind, KindError
from peftref.language.op import FIRST, Op


def _whole(kind: Kind) -> Kind:
    return Kind((), kind.per)


def _rows(kind: Kind) -> Kind:
    return Kind(_matrix(kind).dims[:1], kind.per)


def _columns(kind: Kind) -> Kind:
    return Kind(_matrix(kind).dims[1:], kind.per)


def _matrix(kind: Kind) -> Kind:
    if len(kind.dims) != 2:
        raise KindError(f"a matrix is needed, and this is {kind.show()}")
    return kind


OPS = (
    Op(
        name="norm", family="reduction", about="Frobenius norm, a number", example="norm(B)", arity=(1, 1), rule=_whole,
        torch="torch.linalg.vector_norm({0})", oracle="np.sqrt(({0} * {0}).sum())", vanishes=FIRST, opaque=True, costly=True,
        latex=r"\lVert {0} \rVert",
    ),
    Op(
        name="norm_rows", family="reduction", about="norm of each row", example="norm_rows(W)", arity=(1, 1), rule=_rows,
        torch="torch.linalg.vector_norm({0}, dim=1)", oracle="np.sqrt(({0} * {0}).sum(axis=1))", vanishes=FIRST,
        opaque=True, costly=True, latex=r"\lVert {0} \rVert_{{\mathrm{{row}}}}",
    ),
    Op(
        name="norm_cols", family="reduction", about="norm of each column", example="norm_cols(W)", arity=(1, 1),
        rule=_columns, torch="torch.linalg.vector_norm({0}, dim=0)", oracle="np.sqrt(({0} * {0}).sum(axis=0))",
        vanishes=FIRST, opaque=True, costly=True, latex=r"\lVert {0} \rVert_{{\mathrm{{col}}}}",
    ),
)  # fmt: skip
