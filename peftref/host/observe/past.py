"""A past of rows: keys and values that no token gave, in the cache of a model that attends by itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from peftref.host.observe.build import quiet
from peftref.host.observe.shadow import tensors_of
from peftref.host.site import Site

Made = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Rows of keys and values [batch, heads, rows, width] for the keys and values of tokens, which have the same shape but for the rows."""
CACHE = "past_key_values"
FIXED = ("attention_mask", "position_ids")
"""What is made for as many tokens as there are, and made anew by the model where it is not given."""
TRIED = 2
"""How many rows a cache is tried with."""


class RowsLayer(DynamicLayer):  # type: ignore[misc]  # transformers does not say what it is
    """One layer of a cache that begins with `added` rows; they are made when the first keys and values come, in their precision."""

    def __init__(self, added: int, made: Made) -> None:
        super().__init__()
        self.added, self.made = added, made

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Puts the rows where a cache begins empty."""
        super().lazy_initialization(key_states, value_states)
        self.keys, self.values = self.made(key_states, value_states)

    def get_seq_length(self) -> int:
        """How many rows and tokens there are."""
        return int(super().get_seq_length()) if self.is_initialized else self.added


def past_of(added: int, made: Mapping[int, Made]) -> DynamicCache:
    """A cache that begins with rows. made: the rows of each layer, by its number in the cache."""
    cache = DynamicCache()
    put_rows(cache, added, made)
    return cache


def put_rows(cache: Cache, added: int, made: Mapping[int, Made]) -> None:
    """Lets an empty cache begin with rows; its layers that get some grow as they are filled."""
    own = cache.layers + [DynamicLayer() for _ in range(max(made) + 1 - len(cache.layers))]
    cache.layers = [RowsLayer(added, made[i]) if i in made else each for i, each in enumerate(own)]


def cache_layer(site: Site, module: nn.Module) -> int:
    """Under which number a module of attention keeps its keys and values."""
    layer: Any = getattr(module, "layer_idx", site.layer)
    return int(layer)


def takes_past(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> bool:
    """Whether a model puts the keys and values of all its layers through its cache, and every token sees what stands there before it.

    It is run with rows in its cache, and with other ones. inputs: what it can be called with.
    """
    if CACHE not in inspect.signature(model.forward).parameters:
        return False
    layers = range(model.config.get_text_config(decoder=True).num_hidden_layers)
    plain = {name: value for name, value in inputs.items() if name not in FIXED}
    asked: set[int] = set()

    def rows(layer: int, size: float, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        asked.add(layer)
        return some_rows(size, keys, values)

    try:
        with torch.no_grad(), quiet():
            one, other = (
                _first(model(**plain, **{CACHE: past_of(TRIED, {i: partial(rows, i, size) for i in layers})}))
                for size in (1.0, 2.0)
            )
    except Exception:  # whatever a model raises that cannot be called so
        return False
    return (
        asked == set(layers) and one is not None and other is not None and bool((one != other).flatten(1).any(1).all())
    )


def some_rows(size: float, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Rows to try a cache with, of numbers from -size to size."""
    made = (torch.linspace(-size, size, TRIED * each.shape[-1], dtype=each.dtype) for each in (keys, values))
    k, v = (row.view(TRIED, -1).expand(*each.shape[:2], -1, -1) for row, each in zip(made, (keys, values), strict=True))
    return k, v


def _first(result: Any) -> Tensor | None:
    """What a model gives for the first token of each sample."""
    found = (each[:, 0] for each in tensors_of(dict(result)) if each.dim() == 3)
    return next(found, None)
