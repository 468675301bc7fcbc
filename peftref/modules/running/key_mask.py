"""The mask of attention that gets more keys: columns for those that a technique adds, which every query sees, and for padding among them,
which none sees. Masks of pairs, the block masks of flex attention, and flash attention, which is given none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from peftref.core.problem import fail
from peftref.modules.running.packing import flash, packed
from peftref.modules.running.padding import unpadded

Mask = Tensor | BlockMask | None


def hidden(mask: Mask, pads: Tensor, q: Tensor, keys: int, added: int, module: nn.Module) -> Mask:
    """The mask with the padding in front of some samples' keys hidden. pads: [samples]; keys: all; added: those in front.

    Raises PeftrefError `samples-length` in flash attention.
    """
    if flash(module):
        text = "some samples of the batch get more keys than others, and flash attention is given no mask for these"
        raise fail("samples-length", text, hint='load the host with attn_implementation="sdpa"')
    seen = nn.functional.pad(unpadded(pads, added, q.shape[0], q.device), (0, keys - added), value=True)
    if isinstance(mask, BlockMask) or "flex" in module.config._attn_implementation:  # type: ignore[union-attr,operator]  # every attention module has its config
        return _blocks_of(seen, mask.mask_mod if isinstance(mask, BlockMask) else None, q)
    if mask is None:
        return seen[:, None, None].expand(-1, 1, q.shape[2], -1)
    shut = seen[:, None, None]
    return mask & shut if mask.dtype == torch.bool else mask.masked_fill(~shut, torch.finfo(mask.dtype).min)


def _blocks_of(seen: Tensor, rule: Callable[..., Any] | None, q: Tensor) -> BlockMask:
    """The block mask of flex attention that a rule makes, of those keys [batch, keys] that are seen."""

    def both(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        wanted: Tensor = seen[b, key] if rule is None else seen[b, key] & rule(b, h, query, key)
        return wanted

    return create_block_mask(both, seen.shape[0], None, q.shape[2], seen.shape[1], device=q.device)


def wider(mask: Mask, q: Tensor, keys: int, added: int, module: nn.Module, more: dict[str, Any]) -> Mask:
    """The mask with columns for new keys, which every query sees."""
    if flash(module):
        _refuse(q, keys, module, more)
    if isinstance(mask, BlockMask):
        return _blocks(mask.mask_mod, mask.shape[0], q, keys, added)
    if mask is not None:
        return nn.functional.pad(mask, (added, 0), value=0.0 if mask.is_floating_point() else True)
    causal = more.get("is_causal")
    causal = getattr(module, "is_causal", False) if causal is None else causal
    if not causal or q.shape[2] == 1 or flash(module):
        return None
    if "flex" in module.config._attn_implementation:  # type: ignore[union-attr,operator]  # every attention module has its config
        return _blocks(lambda _b, _h, query, key: key <= query, 1, q, keys, added)
    seen = torch.ones(q.shape[2], keys, dtype=torch.bool, device=q.device).tril()
    return nn.functional.pad(seen, (added, 0), value=True)[None, None]


def _blocks(seen: Callable[..., Any], batch: int, q: Tensor, keys: int, added: int) -> BlockMask:
    """The block mask of flex attention that a rule makes, with columns for new keys."""

    def with_rows(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        wanted: Tensor = (key < added) | seen(b, h, query, (key - added).clamp(min=0))
        return wanted

    return create_block_mask(with_rows, batch, None, q.shape[2], keys + added, device=q.device)


def _refuse(q: Tensor, keys: int, module: nn.Module, more: dict[str, Any]) -> None:
    """Raises PeftrefError `flash-rows` where flash attention would hide new keys from some queries."""
    window = more.get("sliding_window")
    told = {**more, "inputs_embeds": q[:, 0], "past_key_values": None, "use_cache": False}
    why = ""
    if window is not None and keys > window:
        why = f"lets tokens see no further than {window} back"
    elif q.shape[2] == keys and packed(module, told) is not None:
        why = "takes packed sequences apart"
    if why:
        text = f"rows in front of the keys are for every token, and flash attention {why}"
        hint = 'load the host with attn_implementation="sdpa"'
        raise fail("flash-rows", text, hint=hint)
