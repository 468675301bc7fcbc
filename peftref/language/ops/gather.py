"""gather: the values at given positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peftref.language.kind import Kind, KindError
from peftref.language.op import FIRST, Op

if TYPE_CHECKING:
    from torch import Tensor


def rule(values: Kind, at: Kind) -> Kind:
    """From [k, ...] what stands at positions [...]: the shape of the positions, then that of one value."""
    if not values.dims:
        raise KindError("gather needs values along an axis, and this is a number")
    return Kind((*at.dims, *values.dims[1:]), values.per)


def gather(value: Tensor, at: Tensor, axes: int) -> Tensor:
    """What stands at positions [...] along the first axis of [..., *shape], where the shape has some axes."""
    index: Any = (..., at, *(slice(None),) * (axes - 1))
    return value[index]


OPS = (
    Op(
        name="gather", family="structure", about="the values at given positions", example="gather(l, at)", arity=(2, 2),
        rule=rule, positions=frozenset({1}), torch="op.gather({0}, {1}, {axes})", function=gather,
        oracle="{0}[{1}.astype(int)]", linear=FIRST, vanishes=FIRST, latex=r"{0}[{1}]",
    ),
)  # fmt: skip
