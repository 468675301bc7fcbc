"""join: numbers after numbers of one token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.kind import Kind, KindError, widest
from peftref.language.op import Op

if TYPE_CHECKING:
    from torch import Tensor


def rule(*kinds: Kind) -> Kind:
    """Vectors [a] and [b] give [a + b]."""
    wrong = next((kind for kind in kinds if len(kind.dims) != 1), None)
    if wrong is not None:
        raise KindError(f"join needs vectors, and this is {wrong.show()}")
    total = kinds[0].dims[0]
    for kind in kinds[1:]:
        total = total + kind.dims[0]
    return Kind((total,), widest(kinds))


def join(*parts: Tensor) -> Tensor:
    """Vectors one after the other along the last axis; those that are the same for all tokens are repeated."""
    import torch

    whole = max(parts, key=torch.Tensor.dim)
    return torch.cat([part.expand(*whole.shape[:-1], part.shape[-1]) for part in parts], -1)


OPS = (
    Op(
        name="join", family="structure", about="one vector after the other, along their own axis: what split takes apart",
        example="join(z, D @ h)", arity=(2, 4), rule=rule, function=join, oracle="np.concatenate([{operands}])",
        latex=r"[{operands}]",
    ),
)  # fmt: skip
