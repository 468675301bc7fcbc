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

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from peftref.host.site import Site
from peftref.modules.running.key_mask import Mask, hidden, wider
from peftref.modules.running.live_site import LiveSite
from peftref.modules.running.override import Override
from peftref.modules.running.own import Own
from peftref.modules.running.padding import joined, padding
from peftref.modules.running.run import Run, by_part
from peftref.modules.running.samples import Part

Parts = list[tuple[Part | None, list[Run], dict[str, Any]]]
"""The runs of each part of the batch, with what they know."""
PREFIX = "peftref_"
ATTRIBUTE = "peftref_core"


class CoreTap:
    """What one attention module of the host does differently."""

    def __init__(self, module: nn.Module, live: LiveSite) -> None:
        self.module = module
        self.live = live
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
        runs, site = self.live.runs(), self.live.site
        before = k.shape[2]
        own = Own(self.module)
        now: dict[str, Any] = {"x": self.x, "q": q.transpose(1, 2), "k": k.transpose(1, 2), "v": v.transpose(1, 2)}
        parts = brought(runs, site, own, now)
        now = together(now, parts)
        added = now["k"].shape[1] - before
        if added:
            mask = wider(mask, q, before, added, self.module, more)
            if (pads := _pads(parts, before, q.shape[0])) is not None:
                mask = hidden(mask, pads, q, before + added, added, self.module)
            if isinstance(more.get("position_bias"), Tensor):
                more = {**more, "position_bias": nn.functional.pad(more["position_bias"], (added, 0))}
        out, weights = call(self.module, *(now[name].transpose(1, 2) for name in "qkv"), mask, **more)
        for part, mine, known in parts:
            for run in mine:
                if "o" in run.gives and part is None:
                    out = run(site, own, **known, o=out)["o"]
                elif "o" in run.gives and part is not None:
                    with part.alone():
                        out = part.put(out, run(site, own, **known, o=part.take(out))["o"])
        return out, weights


def brought(runs: list[Run], site: Site, own: Own, now: dict[str, Any]) -> Parts:
    """What the runs of each part of the batch make of q, k and v [batch, tokens, heads, width], before attention."""
    parts: Parts = []
    for part, mine in by_part(runs):
        known = dict(now) if part is None else {name: part.take(value) for name, value in now.items()}
        for run in mine:
            if "o" not in run.gives:
                with nullcontext() if part is None else part.alone():
                    known |= run(site, own, **known)
        parts.append((part, mine, known))
    return parts


def together(now: dict[str, Any], parts: Parts) -> dict[str, Any]:
    """q, k and v of all samples; those of some that have more keys are padded in front for the others."""
    apart = [(part, known) for part, _, known in parts if part is not None]
    if not apart:
        return parts[0][2] if parts else now
    return now | {
        name: joined(now[name], [(part, known[name]) for part, known in apart]) for name in "qkv" if name in now
    }


def _pads(parts: Parts, keys: int, count: int) -> Tensor | None:
    """How many keys of padding stand in front of each of so many samples; None where there are none. keys: the host's own."""
    runs = [run for _, mine, _ in parts for run in mine]
    lengths = {part.name if part else None: known["k"].shape[1] - keys for part, _, known in parts}
    return padding(runs, lengths, count)


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
