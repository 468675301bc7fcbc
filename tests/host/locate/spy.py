"""What flows through a live model: values at ports, changed at will, and what the attention function receives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from peftref.proof.ports import hooked as hooked
from peftref.proof.ports import pick as pick

SPY = "peftref_test_spy"
Attention = tuple[str, Tensor, Tensor, Tensor]


@contextmanager
def attention(model: PreTrainedModel) -> Iterator[list[Attention]]:
    """While it lasts, the list fills with the module's path, the query, key and value of every attention."""
    seen: list[Attention] = []
    paths = {id(module): path for path, module in model.named_modules()}

    def spy(module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("softcap", None)
        seen.append((paths[id(module)], query.detach().clone(), key.detach().clone(), value.detach().clone()))
        return sdpa_attention_forward(module, query, key, value, *args, **kwargs)

    AttentionInterface.register(SPY, spy)
    AttentionMaskInterface.register(SPY, sdpa_mask)
    before = model.config._attn_implementation
    model.set_attn_implementation(SPY)
    try:
        yield seen
    finally:
        model.set_attn_implementation(before)
