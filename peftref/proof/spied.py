"""Attention as a plain computation that tells what it is given, through transformers' attention interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from peftref.host.observe.trace import ATTENTION, attending

NAME = "peftref_proof"
Told = Callable[[str, Tensor, Tensor, Tensor, Tensor], Tensor]


@contextmanager
def spied(model: PreTrainedModel, told: Told) -> Iterator[None]:
    """While it lasts, `told` is given the path, q, k, v and o of every attention, and gives what stands in the place of o.

    q, k, v: [batch, heads, tokens, width]. o: [batch, tokens, heads, width].
    """
    paths = {id(module): path for path, module in model.named_modules()}

    def attention(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any = None, **given: Any) -> Any:
        output, weights = attend(module, query, key, value, mask, **given)
        return told(paths.get(id(module), ""), query, key, value, output), weights

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, eager_mask)
    try:
        with attending(model, NAME, (ATTENTION,)):
            yield
    finally:
        AttentionInterface._global_mapping.pop(NAME, None)
        AttentionMaskInterface._global_mapping.pop(NAME, None)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **given: Any,
) -> tuple[Tensor, Tensor]:
    """Softmax attention as transformers' eager functions compute it, with a bias on the scores where one is given."""
    groups = query.shape[1] // key.shape[1]
    key, value = (each.repeat_interleave(groups, dim=1) if groups > 1 else each for each in (key, value))
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    bias = given.get("position_bias")
    scores = scores if bias is None else scores + bias
    if mask is not None and mask.dim() == 4:
        mask = mask[..., : key.shape[-2]]
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    elif mask is None and (module.is_causal if is_causal is None and hasattr(module, "is_causal") else is_causal):
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1 + scores.shape[-1] - scores.shape[-2])
        scores = scores.masked_fill(later, float("-inf"))
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), weights
