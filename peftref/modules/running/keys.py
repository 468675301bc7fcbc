"""Rows in front of the keys and values of attention that a host computes itself: they stand in its cache, as a past that is counted.

Where no cache is kept, one is made for the call. What a host does with a past it does with these rows: windows hide them, and
what stores no past (checkpoints in training) has no place for them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache

from peftref.core.problem import fail
from peftref.host.observe.past import CACHE, cache_layer, put_rows
from peftref.modules.running.core import brought, together
from peftref.modules.running.live_site import LiveSite
from peftref.modules.running.own import Own

Rows = tuple[int, Tensor | None]
"""How many rows, and how many of them are padding for each sample."""


class Keys:
    """The rows in the cache of one stack.

    counted: after how many rows the tokens of so many samples are counted.
    """

    def __init__(self, entry: nn.Module, counted: Callable[[int], int | Tensor]) -> None:
        self.entry, self.counted = entry, counted
        self.layers: dict[int, tuple[LiveSite, nn.Module]] = {}

    def add(self, live: LiveSite, module: nn.Module) -> None:
        """Lets the techniques at the attention of one layer act."""
        self.layers[cache_layer(live.site, module)] = live, module

    def begin(self, given: dict[str, Any], count: int) -> Rows:
        """Lets the cache of a call of the stack begin with rows, where there are any. given: its arguments; count: samples.

        Raises PeftrefError `keys-cache` where the host keeps no past, or a cache cannot begin with rows.
        """
        found = self.counted(count) if self.layers else 0
        added = found if isinstance(found, int) else int(found.max())
        if not added:
            return 0, None
        if self.entry.training and getattr(self.entry, "gradient_checkpointing", False):
            text = "rows in front of the keys stand in this host's cache, and gradient checkpointing keeps none"
            raise fail("keys-cache", text, hint="call model.gradient_checkpointing_disable()")
        cache = given.get(CACHE)
        if cache is None:
            cache = given[CACHE] = DynamicCache()
        if not isinstance(cache, Cache) or isinstance(cache, EncoderDecoderCache):
            text = f"rows in front of the keys stand in this host's cache, and a {type(cache).__name__} cannot begin with them"
            raise fail("keys-cache", text, hint="give no cache, or a DynamicCache")
        put_rows(cache, added, {i: partial(self._rows, *each) for i, each in self.layers.items()})
        if isinstance(found, int):
            return added, None
        return added, added - found.flatten()

    def _rows(self, live: LiveSite, module: nn.Module, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The rows for keys and values [batch, heads, tokens, width]: what the techniques make of none."""
        site = live.site
        heads, own = site.sizes["n_kv_heads"], Own(module)
        now: dict[str, Any] = {
            name: each.new_zeros(each.shape[0], 0, heads, each.shape[-1]) for name, each in (("k", keys), ("v", values))
        }
        after = together(now, brought(live.runs(), site, own, now))
        k, v = (_spread(after[name].transpose(1, 2), keys.shape[1] // heads) for name in "kv")
        return k, v


def _spread(rows: Tensor, times: int) -> Tensor:
    """Rows [batch, heads, rows, width] for a cache in which each head stands several times."""
    return torch.repeat_interleave(rows, times, 1) if times > 1 else rows
