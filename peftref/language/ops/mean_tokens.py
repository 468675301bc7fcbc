"""mean_tokens: the mean of each sample's tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peftref.language.kind import Kind, KindError
from peftref.language.op import FIRST, Op

if TYPE_CHECKING:
    from torch import Tensor

    from peftref.language.op import Array


def rule(kind: Kind) -> Kind:
    """A value per token gives one per sample."""
    if kind.per != "token":
        raise KindError(f"mean_tokens needs a value per token, and this is {kind.show()}")
    return Kind(kind.dims, "sample")


def mean_tokens(h: Tensor, context: Any, call: int = 0) -> Tensor:
    """The mean over the tokens that count: [batch, tokens, ...] to [batch, 1, ...].

    With a cache it is the mean over the tokens so far; call: as in `attend`.
    """
    flat: Tensor
    flat, _ = context.past(each := h.reshape(*h.shape[:2], -1).unsqueeze(1), each, call)
    flat, mask = flat[:, 0], context.flow.tokens()
    if mask is None or mask.shape[1] != flat.shape[1]:
        mean = flat.mean(1, keepdim=True)
    else:
        weight = mask.to(h.dtype).unsqueeze(-1)
        mean = (flat * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1)
    return mean.reshape(h.shape[0], 1, *h.shape[2:])


def _oracle(h: Array, **_: object) -> Array:
    import numpy as np

    return np.asarray(h.mean(axis=1, keepdims=True))


OPS = (
    Op(
        name="mean_tokens", family="token", about="mean over the tokens of each sample, padding left out",
        example="mean_tokens(h)", arity=(1, 1), rule=rule, torch="op.mean_tokens({0}, self.context{read})",
        function=mean_tokens, oracle=_oracle, mixes=True, linear=FIRST, vanishes=FIRST,
        latex=r"\operatorname{{mean}}_{{\mathrm{{tokens}}}}({0})",
    ),
)  # fmt: skip
