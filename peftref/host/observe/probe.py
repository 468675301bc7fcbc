"""The door: functions for attention, masks and experts that only report what reaches them.

Registered in transformers' own interfaces under a name of their own, and taken out again when the probe is closed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.moe import ExpertsInterface
from transformers.masking_utils import AttentionMaskInterface

_NUMBERS = itertools.count()

Report = Callable[..., None]


@contextmanager
def probe(attended: Report, masked: Report, routed: Report) -> Iterator[str]:
    """Register a probe for the block's duration and give its name, to be used as attention and experts implementation.

    attended(module, query, key, value, mask, output): called for every attention; query [batch, heads, tokens, d_head].
    masked(mask, causal): called for every mask that the model asks for.
    routed(hidden, output): called for every mixture of experts; both [tokens, d_model].
    """
    name = f"peftref_probe_{next(_NUMBERS)}"

    def attention(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        batch, heads, tokens, _d_head = query.shape
        output = query.new_zeros((batch, tokens, heads, value.shape[-1]))
        attended(module, query, key, value, attention_mask, output)
        return output, None

    def mask(
        batch_size: int, q_length: int, kv_length: int, mask_function: Any = None, device: Any = None, **_: Any
    ) -> torch.Tensor:
        output = torch.ones((batch_size, 1, q_length, kv_length), dtype=torch.bool, device=device)
        masked(output, _is_causal(mask_function))
        return output

    def experts(module: torch.nn.Module, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        output = torch.zeros_like(hidden_states)
        routed(hidden_states, output)
        return output

    doors = ((AttentionInterface, attention), (AttentionMaskInterface, mask), (ExpertsInterface, experts))
    for door, function in doors:
        door.register(name, function)
    try:
        yield name
    finally:
        for door, _function in doors:
            door._global_mapping.pop(name, None)


def _is_causal(mask_function: Any) -> bool | None:
    """Whether the first token is kept from seeing the second, None where the mask function does not say."""
    if mask_function is None:
        return None
    zero, one = (torch.tensor(number, device="cpu") for number in (0, 1))
    try:
        return not bool(mask_function(zero, zero, zero, one))
    except (RuntimeError, IndexError, TypeError, NotImplementedError):
        return None
