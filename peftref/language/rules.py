"""Shapes that several ops have in common: the kind of the result by the kinds of the operands; each raises KindError."""

from __future__ import annotations

from peftref.language.kind import Kind, KindError, widest
from peftref.language.size import Size


def elementwise(*kinds: Kind) -> Kind:
    """Equal shapes, numbers, or a column [n] that acts on every column of [n, m]."""
    dims = max((kind.dims for kind in kinds), key=len)
    for kind in kinds:
        if kind.dims and dims[: len(kind.dims)] != kind.dims:
            clash = next(pair for pair in zip(kind.dims, dims, strict=False) if pair[0] != pair[1])
            raise KindError(
                f"the shapes {kind.show()} and {Kind(dims).show()} do not fit",
                "operands need equal shapes, a number, or a column [n] against [n, m]",
                clash,
            )
    return Kind(dims, widest(kinds))


def vector(*kinds: Kind) -> Kind:
    """A vector (with further operands of its shape) keeps its shape."""
    kind = kinds[0]
    if len(kind.dims) != 1:
        raise KindError(f"a vector is needed, and this is {kind.show()}")
    for other in kinds[1:]:
        if other.dims != kind.dims:
            raise KindError(f"the shapes {kind.show()} and {other.show()} differ", None, (kind.dims[0],))
    return Kind(kind.dims, widest(kinds))


def matrix(kind: Kind) -> Kind:
    """A matrix that is the same for every input keeps its shape."""
    if len(kind.dims) != 2 or kind.per != "none":
        raise KindError(f"a matrix is needed, and this is {kind.show()}")
    return kind


def square(kind: Kind) -> Kind:
    """A square matrix, or a stack of them, keeps its shape."""
    if len(kind.dims) < 2 or kind.dims[-1] != kind.dims[-2]:
        raise KindError(f"a square matrix is needed, and this is {kind.show()}")
    return kind


def entries(values: Kind, at: Kind, vector: Kind, n: Size) -> Kind:
    """Values [k] at positions [k] of a matrix [n, m], and a vector [m], give [n]."""
    if len(values.dims) != 1 or values.dims != at.dims or len(vector.dims) != 1:
        raise KindError(
            f"values [k], positions [k] and a vector are needed, not {values.show()}, {at.show()} and {vector.show()}"
        )
    return Kind((n,), vector.per)
