"""The tap at attention itself, through transformers' attention interface: q, k and v on their way in, o on its way out.

A host's config names its attention function; while a technique stands at `attention.core`, it names ours, which changes what the
function gets and then calls the function that was named before. New keys get a mask that lets every query see them, through windows
and in every packed sequence; flash attention, which is given no mask for these, cannot.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from peftref.compile.override import Override
from peftref.compile.own import Own
from peftref.compile.packing import flash, packed
from peftref.compile.padding import joined, padding, unpadded
from peftref.compile.run import Run, by_part
from peftref.compile.samples import Part
from peftref.host.site import Site
from peftref.problem import fail

Parts = list[tuple[Part | None, list[Run], dict[str, Any]]]
"""The runs of each part of the batch, with what they know."""
PREFIX = "peftref_"
ATTRIBUTE = "peftref_core"
Mask = Tensor | BlockMask | None


class CoreTap:
    """What one attention module of the host does differently."""

    def __init__(self, module: nn.Module, site: Site, active: Callable[[Site], list[Run]]) -> None:
        self.module = module
        self.site = site
        self.active = active
        self.name = str(module.config._attn_implementation)  # type: ignore[union-attr]  # every attention module has its config
        module.__dict__[ATTRIBUTE] = self
        self.x: Tensor | None = None
        self.override = Override(module, self._enter)
        if not self.name.startswith(PREFIX):
            _register(self.name)
            module.config._attn_implementation = PREFIX + self.name  # type: ignore[union-attr]  # as above

    def remove(self) -> None:
        """Gives the config its own attention function back."""
        self.override.remove()
        del self.module.__dict__[ATTRIBUTE]
        self.module.config._attn_implementation = self.name.removeprefix(PREFIX)  # type: ignore[union-attr]  # as above

    def _enter(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.x = args[0] if args else next(iter(kwargs.values()), None)
        try:
            return original(*args, **kwargs)
        finally:
            self.x = None

    def attend(
        self, call: Callable[..., Any], q: Tensor, k: Tensor, v: Tensor, mask: Mask, more: dict[str, Any]
    ) -> Any:
        """Attention with every active run: q, k, v [batch, heads, tokens, d_head] as the attention function takes them."""
        runs = self.active(self.site)
        before = k.shape[2]
        own = Own(self.module)
        now: dict[str, Any] = {"x": self.x, "q": q.transpose(1, 2), "k": k.transpose(1, 2), "v": v.transpose(1, 2)}
        parts: Parts = []
        for part, mine in by_part(runs):
            known = dict(now) if part is None else {name: part.take(value) for name, value in now.items()}
            for run in mine:
                if "o" not in run.gives:
                    with nullcontext() if part is None else part.alone():
                        known |= run(self.site, own, **known)
            parts.append((part, mine, known))
        now = _together(now, parts)
        added = now["k"].shape[1] - before
        if added:
            mask = _mask(mask, q, before, added, self.module, more)
            mask = _hidden(mask, q, now["k"].shape[1], added, parts, self.module)
            if isinstance(more.get("position_bias"), Tensor):
                more = {**more, "position_bias": nn.functional.pad(more["position_bias"], (added, 0))}
        out, weights = call(self.module, *(now[name].transpose(1, 2) for name in "qkv"), mask, **more)
        for part, mine, known in parts:
            for run in mine:
                if "o" in run.gives and part is None:
                    out = run(self.site, own, **known, o=out)["o"]
                elif "o" in run.gives and part is not None:
                    with part.alone():
                        out = part.put(out, run(self.site, own, **known, o=part.take(out))["o"])
        return out, weights


def _together(now: dict[str, Any], parts: Parts) -> dict[str, Any]:
    """q, k and v of all samples; those of some that have more keys are padded in front for the others."""
    apart = [(part, known) for part, _, known in parts if part is not None]
    if not apart:
        return parts[0][2] if parts else now
    return now | {name: joined(now[name], [(part, known[name]) for part, known in apart]) for name in "qkv"}


def _hidden(mask: Mask, q: Tensor, keys: int, added: int, parts: Parts, module: nn.Module) -> Mask:
    """The mask with the padding in front of some samples' keys hidden."""
    runs = [run for _, mine, _ in parts for run in mine]
    lengths = {part.name if part else None: known["k"].shape[1] - keys + added for part, _, known in parts}
    pads = padding(runs, lengths, q.shape[0])
    if pads is None:
        return mask
    if flash(module):
        text = "some samples of the batch get more keys than others, and flash attention is given no mask for these"
        raise fail("samples-length", text, hint='load the host with attn_implementation="sdpa"')
    seen = nn.functional.pad(unpadded(pads, added, q.shape[0], q.device), (0, keys - added), value=True)
    if isinstance(mask, BlockMask) or "flex" in module.config._attn_implementation:  # type: ignore[union-attr,operator]  # every attention module has its config
        return _seen_blocks(seen, mask.mask_mod if isinstance(mask, BlockMask) else None, q)
    if mask is None:
        return seen[:, None, None].expand(-1, 1, q.shape[2], -1)
    shut = seen[:, None, None]
    return mask & shut if mask.dtype == torch.bool else mask.masked_fill(~shut, torch.finfo(mask.dtype).min)


def _seen_blocks(seen: Tensor, rule: Callable[..., Any] | None, q: Tensor) -> BlockMask:
    """The block mask of flex attention that a rule makes, of the keys [batch, keys] that are seen."""

    def both(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        wanted: Tensor = seen[b, key] if rule is None else seen[b, key] & rule(b, h, query, key)
        return wanted

    return create_block_mask(both, seen.shape[0], None, q.shape[2], seen.shape[1], device=q.device)


def _mask(mask: Mask, q: Tensor, keys: int, added: int, module: nn.Module, more: dict[str, Any]) -> Mask:
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

    def wider(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        wanted: Tensor = (key < added) | seen(b, h, query, (key - added).clamp(min=0))
        return wanted

    return create_block_mask(wider, batch, None, q.shape[2], keys + added, device=q.device)


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


def _register(name: str) -> None:
    """Makes the attention function of a name known once more, with our tap in front."""

    def forward(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Mask, **more: Any) -> Any:
        call = _function(name, module)
        tap = module.__dict__.get(ATTRIBUTE)
        if tap is None:
            return call(module, query, key, value, attention_mask, **more)
        return tap.attend(call, query, key, value, attention_mask, more)

    if PREFIX + name not in ALL_ATTENTION_FUNCTIONS.valid_keys():
        AttentionInterface.register(PREFIX + name, forward)
        if name in ALL_MASK_ATTENTION_FUNCTIONS.valid_keys():
            AttentionMaskInterface.register(PREFIX + name, ALL_MASK_ATTENTION_FUNCTIONS[name])


def _function(name: str, module: nn.Module) -> Callable[..., Any]:
    """The attention function of a name; `eager` is each model's own."""
    if name == "eager":
        own: Callable[..., Any] = vars(sys.modules[type(module).__module__])["eager_attention_forward"]
        return own
    known: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS[name]
    return known
