"""softmax: over a vector, or over its largest numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.kind import Kind, KindError
from peftref.language.op import Op
from peftref.language.rules import vector
from peftref.language.size import Size

if TYPE_CHECKING:
    from torch import Tensor

    from peftref.language.op import Array


def _top(kind: Kind, k: Size) -> Kind:
    if not kind.dims:
        raise KindError("weights over an axis are needed, and this is a number")
    return kind


def top_softmax(logits: Tensor, k: int) -> Tensor:
    """Softmax over the k largest of the last axis, zero elsewhere."""
    import torch

    values, at = logits.topk(k, dim=-1)
    return torch.zeros_like(logits).scatter(-1, at, values.softmax(-1))


def _softmax(logits: Array) -> Array:
    import numpy as np

    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())


def _top_softmax(logits: Array, k: int) -> Array:
    import numpy as np

    if logits.ndim > 1:
        return np.stack([_top_softmax(each, k) for each in logits])
    result, kept = np.zeros_like(logits), np.argsort(-logits)[:k]
    result[kept] = _softmax(logits[kept])
    return result


OPS = (
    Op(
        name="softmax", family="normalisation", about="softmax of a vector", example="softmax(D @ h)", arity=(1, 1),
        rule=vector, torch="torch.softmax({0}, -1)", oracle=_softmax, costly=True, latex=r"\operatorname{{softmax}}({0})",
    ),
    Op(
        name="top_softmax", family="normalisation", about="softmax over the k largest along the last axis, zero for the others",
        example="top_softmax(A, k=2)", arity=(1, 1), rule=_top, options={"k": None}, function=top_softmax,
        oracle=_top_softmax, costly=True, latex=r"\operatorname{{softmax}}_{{\mathrm{{top}}\,{k}}}({0})",
    ),
)  # fmt: skip
