"""sum: over the first axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.kind import Kind, KindError
from peftref.language.op import FIRST, Axis, Op

if TYPE_CHECKING:
    from collections.abc import Callable


def rule(kind: Kind) -> Kind:
    """The first axis is summed away."""
    if not kind.dims:
        raise KindError("sum needs a stack, and this is a number")
    return Kind(kind.dims[1:], kind.per)


def _contraction(equal: Callable[[Axis, Axis], None], axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    return axes[1:]


OPS = (
    Op(
        name="sum", family="contraction", about="sum over the first (stack) axis", example="sum(S)", arity=(1, 1), rule=rule,
        torch="{0}.sum(-{axes})", oracle="{0}.sum(axis=0)", linear=FIRST, vanishes=FIRST, contraction=_contraction,
        costly=True, latex=r"\sum_i {0}_i",
    ),
)  # fmt: skip
