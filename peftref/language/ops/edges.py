"""edges: the first and the last tokens of each sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peftref.language.kind import Kind, KindError
from peftref.language.op import FIRST, Op
from peftref.language.size import Size

if TYPE_CHECKING:
    from torch import Tensor

    from peftref.language.op import Array


def rule(token: Kind, first: Size | None = None, last: Size | None = None) -> Kind:
    """A value per token gives a number per token."""
    if token.per != "token":
        raise KindError(f"a value per token is needed, and this is {token.show()}")
    return Kind((), "token")


def edges(h: Tensor, first: int, last: int, context: Any) -> Tensor:
    """1 for the first and last tokens that count of each sample, as [batch, tokens]; tokens that follow a cache are no last ones."""
    new, mask = h.shape[1], context.flow.tokens()
    seen: Tensor = h.new_ones(h.shape[:2]) if mask is None or mask.shape[1] < new else mask.to(h.dtype)
    chosen = seen.cumsum(1) <= first
    if seen.shape[1] == new:
        chosen = chosen | (seen.flip(1).cumsum(1).flip(1) <= last)
    return (chosen.to(h.dtype) * seen)[:, -new:]


def _oracle(h: Array, first: int = 0, last: int = 0, **_: object) -> Array:
    import numpy as np

    tokens = h.shape[1]
    return np.asarray([[float(i < first or i >= tokens - last) for i in range(tokens)]] * h.shape[0])


OPS = (
    Op(
        name="edges", family="token",
        about="1 for the first and the last tokens of each sample, as many as given, and 0 between; padding left out",
        example="edges(h, first=1, last=1)", arity=(1, 1), rule=rule, options={"first": 0, "last": 0},
        torch="op.edges({0}, {first}, {last}, self.context)", function=edges, oracle=_oracle, mixes=True, still=FIRST,
        latex=r"\operatorname{{edges}}_{{{first},{last}}}",
    ),
)  # fmt: skip
