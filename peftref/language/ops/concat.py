"""concat: tokens after tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.kind import Kind, KindError
from peftref.language.op import Op
from peftref.language.source import Source, atom

if TYPE_CHECKING:
    from torch import Tensor

    from peftref.language.op import Array


def rule(*kinds: Kind) -> Kind:
    """Rows [n, ...] and values [...] per token are put one after the other on the token axis."""
    first = next((kind for kind in kinds if kind.per == "token"), None)
    if first is None:
        raise KindError("one operand of concat must carry the token axis", "concat(P, h) puts the rows of P in front")
    for kind in kinds:
        dims = kind.dims if kind.per == "token" else kind.dims[1:]
        if dims != first.dims or (kind.per != "token" and not kind.dims):
            wanted = ", ".join(["n", *(dim.show() for dim in first.dims)])
            raise KindError(f"{kind.show()} cannot join {first.show()}", f"a leaf of shape [{wanted}] can")
    return first


def _source(call: Source) -> str:
    """Rows per sample are [batch, 1, n, ...]: the axis of one token goes."""
    pairs = zip(call.args, call.kinds, strict=True)
    return f"op.concat({', '.join(f'{atom(arg)}[:, 0]' if kind.per == 'sample' else arg for arg, kind in pairs)})"


def concat(*parts: Tensor) -> Tensor:
    """Rows [n, ...] and values [batch, tokens, ...], one after the other on the token axis."""
    import torch

    batch = next(part.shape[0] for part in parts if part.dim() == max(each.dim() for each in parts))
    most = max(part.dim() for part in parts)
    return torch.cat([part if part.dim() == most else part.expand(batch, *part.shape) for part in parts], dim=1)


def _oracle(*values: Array, kinds: list[Kind], causal: bool) -> Array:
    import numpy as np

    batch = next(value.shape[0] for value, kind in zip(values, kinds, strict=True) if kind.per == "token")
    parts = [
        value
        if kind.per == "token"
        else value[:, 0]
        if kind.per == "sample"
        else np.broadcast_to(value, (batch, *value.shape))
        for value, kind in zip(values, kinds, strict=True)
    ]
    return np.concatenate(parts, axis=1)


OPS = (
    Op(
        name="concat", family="token", about="rows of a leaf and the tokens of the sequence, one after the other",
        example="concat(P, h)", arity=(2, 4), rule=rule, torch=_source, function=concat, oracle=_oracle, mixes=True,
        lengthens=True, latex=r"[{operands}]",
    ),
)  # fmt: skip
