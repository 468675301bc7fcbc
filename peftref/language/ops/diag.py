"""diag: a diagonal matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.kind import Kind, KindError
from peftref.language.op import FIRST, Axis, Op

if TYPE_CHECKING:
    from collections.abc import Callable


def rule(kind: Kind) -> Kind:
    """A vector [n] gives a diagonal matrix [n, n]."""
    if len(kind.dims) != 1:
        raise KindError(f"diag needs a vector, and this is {kind.show()}", "scale rows by a vector with *")
    return Kind(kind.dims * 2, kind.per)


def _contraction(equal: Callable[[Axis, Axis], None], axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    return axes * 2


OPS = (
    Op(
        name="diag", family="structure", about="diagonal matrix of a vector", example="diag(l)", arity=(1, 1), rule=rule,
        torch="torch.diag_embed({0})", oracle="np.diag({0})", linear=FIRST, vanishes=FIRST, contraction=_contraction,
        latex=r"\operatorname{{diag}}({0})",
    ),
)  # fmt: skip
