"""tile: a value several times over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.kind import Kind
from peftref.language.op import FIRST, Op
from peftref.language.size import Size

if TYPE_CHECKING:
    from torch import Tensor


def rule(kind: Kind, n: Size) -> Kind:
    """A value [...] n times over gives [n, ...]."""
    return Kind((n, *kind.dims), kind.per)


def tile(value: Tensor, n: int, axes: int) -> Tensor:
    """[..., *shape] to [..., n, *shape], where the shape has some axes."""
    at = value.dim() - axes
    return value.unsqueeze(at).expand(*value.shape[:at], n, *value.shape[at:])


OPS = (
    Op(
        name="tile", family="structure", about="a value n times over, along a new first axis", example="tile(B, n=3)",
        arity=(1, 1), rule=rule, options={"n": None}, torch="op.tile({0}, {n}, {axes})", function=tile,
        oracle="np.stack([{0}] * {n})", linear=FIRST, vanishes=FIRST, columns=True,
        latex=r"\operatorname{{tile}}_{{{n}}}({0})",
    ),
)  # fmt: skip
