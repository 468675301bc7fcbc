"""scatter: values at positions of what is zero elsewhere; sparse: such a matrix applied to a vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.kind import Kind, KindError
from peftref.language.op import FIRST, Op, Shape
from peftref.language.rules import entries
from peftref.language.size import Size

if TYPE_CHECKING:
    from torch import Tensor

    from peftref.language.op import Array

ENTRY, TURNED = 14, 350
"""Operations of a dense product that take as long as one of a sparse product, and as bringing one number there and back (measured)."""


def rule(values: Kind, at: Kind, n: Size, m: Size | None = None) -> Kind:
    """Values [k, ...] at positions [k] give [n, ...]; with m, numbers [k] at the positions of a matrix give [n, m]."""
    if not values.dims or len(at.dims) != 1 or values.dims[0] != at.dims[0] or "none" not in (values.per, at.per):
        raise KindError(f"scatter needs as many values as positions, not {values.show()} and {at.show()}")
    if m is None:
        return Kind((n, *values.dims[1:]), values.per)
    if len(values.dims) != 1:
        raise KindError(f"scatter into a matrix needs numbers [k], and this is {values.show()}")
    return Kind((n, m), values.per)


def scatter(values: Tensor, at: Tensor, n: int, m: int = 0) -> Tensor:
    """Values [k, ...] at positions [k] of n; with m, numbers at the flat positions of [n, m]."""
    flat = values.new_zeros(n * m if m else n, *values.shape[1:]).index_add(0, at, values)
    return flat.view(n, m) if m else flat


def _scatter(values: Array, at: Array, n: int, m: int = 0) -> Array:
    import numpy as np

    result = np.zeros((n * m if m else n, *values.shape[1:]))
    for value, place in zip(values, at, strict=True):
        result[int(place)] += value
    return result.reshape(n, m) if m else result


def sparse(values: Tensor, at: Tensor, x: Tensor, n: int) -> Tensor:
    """Values [k] at the flat positions [k] of [n, m], zero elsewhere, applied to [..., m]; values at one position are added."""
    return x @ scatter(values, at, n, x.shape[-1]).mT


def _sparse(values: Array, at: Array, vector: Array, n: int) -> Array:
    return _scatter(values, at, n, len(vector)) @ vector


def _flops(args: tuple[Shape, ...], out: Shape, length: int) -> int:
    """As its fast form takes."""
    return 2 * ENTRY * args[0][0] + TURNED * (args[2][0] + out[0])


OPS = (
    Op(
        name="scatter", family="structure",
        about="values at given positions of a vector of n, or of the flat matrix [n, m], zero elsewhere",
        example="scatter(l, at, n=r, m=d_model)", arity=(2, 2), rule=rule, options={"n": None, "m": 0},
        positions=frozenset({1}), function=scatter, oracle=_scatter, linear=FIRST, vanishes=FIRST,
        latex=r"\operatorname{{scatter}}_{{{1}}}({0})",
    ),
    Op(
        name="sparse", family="contraction",
        about="the matrix with values at given flat positions, zero elsewhere, applied to a vector",
        example="sparse(l, at, h, n=d_model)", arity=(3, 3), rule=entries, options={"n": None}, positions=frozenset({1}),
        function=sparse, oracle=_sparse, linear=frozenset({0, 2}), vanishes=frozenset({0, 2}), flops=_flops, costly=True,
        latex=r"\operatorname{{scatter}}_{{{1}}}({0})\, {2}",
    ),
)  # fmt: skip
