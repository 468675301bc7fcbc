"""transpose: `.T`, the last two axes change places."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.kind import Kind, KindError
from peftref.language.op import FIRST, Axis, Op

if TYPE_CHECKING:
    from collections.abc import Callable


def rule(kind: Kind) -> Kind:
    """The last two axes change places."""
    if len(kind.dims) < 2:
        raise KindError(f".T needs a matrix, and this is {kind.show()}")
    return Kind((*kind.dims[:-2], kind.dims[-1], kind.dims[-2]), kind.per)


def _contraction(equal: Callable[[Axis, Axis], None], axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    return (*axes[:-2], axes[-1], axes[-2])


OPS = (
    Op(
        name="transpose", symbol=".T", family="structure", about="transposed matrix", example="B.T @ h", arity=(1, 1),
        rule=rule, torch="{0}.mT", oracle="np.swapaxes({0}, -1, -2)", linear=FIRST, vanishes=FIRST, identity=True,
        contraction=_contraction, view=True,
    ),
)  # fmt: skip
