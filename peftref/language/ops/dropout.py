"""dropout: numbers left out while training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.kind import Kind
from peftref.language.op import FIRST, Op

if TYPE_CHECKING:
    from torch import Tensor


def rule(kind: Kind, rate: Kind | None = None) -> Kind:
    """The shape stays."""
    return kind


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Dropout while training; at a rate of zero, x itself."""
    from torch.nn.functional import dropout

    return dropout(x, rate) if training and rate > 0 else x


OPS = (
    Op(
        name="dropout", family="flow",
        about="dropout while training; its rate is the setting `dropout`, or the second operand", example="dropout(x)",
        arity=(1, 2), rule=rule, setting="dropout", torch="op.dropout({0}, {1}, self.training)", function=dropout,
        oracle="{0}", linear=FIRST, vanishes=FIRST, passes=True, random=True,
    ),
)  # fmt: skip
