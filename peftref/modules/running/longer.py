"""A call of a stack whose sequence, or whose past, is longer by rows in front: its mask, positions, types and cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache

from peftref.core.problem import fail
from peftref.modules.running.packing import Packing, behind_padding

ROWS = "peftref_rows"
"""Under this name a cache knows how many rows stand in front of its tokens."""


def begun(entry: nn.Module, given: dict[str, Any]) -> Cache:
    """An empty cache as transformers begins it where none is given."""
    config: Any = entry.config
    if config.is_encoder_decoder or given.get("encoder_hidden_states") is not None:
        return EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
    return DynamicCache(config=config)


def rows_in(cache: Any) -> tuple[int, Tensor | None]:
    """How many rows stand in front of the tokens of a cache, and how many of them are padding for each sample."""
    found: tuple[int, Tensor | None] = getattr(cache, ROWS, (0, None)) if isinstance(cache, Cache) else (0, None)
    return found


def remember(cache: Any, added: int, pads: Tensor | None) -> None:
    """Lets a cache know that its first `added` places are rows, of which some are padding."""
    if isinstance(cache, Cache):
        setattr(cache, ROWS, (added, pads))


def make_room(cache: Any, added: int) -> None:
    """Makes room for rows in a cache of fixed length that is empty, once."""
    for layer in getattr(getattr(cache, "self_attention_cache", cache), "layers", ()):
        room = added - getattr(layer, ROWS, 0)
        if hasattr(layer, "max_cache_len") and room > 0:
            layer.max_cache_len += room
            layer.is_initialized = False
            setattr(layer, ROWS, added)


def after_rows(given: dict[str, Any], added: int, *, behind: bool) -> dict[str, Any]:
    """The arguments of a call whose cache has rows in front of the tokens. behind: whether they stand behind padding."""
    mask, positions = given.get("attention_mask"), given.get("position_ids")
    longer = dict(given)
    if isinstance(mask, Tensor) and mask.dim() == 2 and behind:
        longer["attention_mask"] = behind_padding(mask, added).spread(mask.new_ones(mask.shape[0], added), mask)
    elif isinstance(mask, Tensor) and mask.dim() in (2, 4):
        longer["attention_mask"] = nn.functional.pad(mask, (added, 0), value=_seen(mask))
    elif mask is not None:
        raise _fixed()
    if isinstance(positions, Tensor):
        longer["position_ids"] = positions + added
    return longer


def with_rows(given: dict[str, Any], packing: Packing, first: int, *, causal: bool) -> dict[str, Any]:
    """The arguments of a call that gets rows in front of its sequences. first: the position from which the host counts.

    causal: whether rows may stand in front of a mask of pairs: they do not see the tokens, and all tokens see them.
    """
    added = packing.added
    mask, positions, types = (given.get(name) for name in ("attention_mask", "position_ids", "token_type_ids"))
    longer = packing.lengths(given)
    if isinstance(mask, Tensor) and mask.dim() == 2:
        longer["attention_mask"] = packing.spread(mask.new_ones(mask.shape[0], added), mask)
    elif isinstance(mask, Tensor) and mask.dim() == 4 and causal and mask.shape[2] == mask.shape[3]:
        longer["attention_mask"] = _pairs(mask, added)
    elif mask is not None:
        raise _fixed()
    if any(_of_pairs(name, value) for name, value in given.items()):
        raise _fixed()
    if isinstance(positions, Tensor):
        rows = torch.arange(first, first + added, device=positions.device, dtype=positions.dtype)
        if positions.dim() == 2:
            longer["position_ids"] = packing.spread(rows.expand(positions.shape[0], -1), positions + added)
        else:
            longer["position_ids"] = torch.cat([rows.expand(*positions.shape[:-1], -1), positions + added], -1)
    if isinstance(types, Tensor):
        longer["token_type_ids"] = packing.spread(types.new_zeros(types.shape[0], added), types)
    return longer


def fitted(mask: Any, cache: Any) -> Any:
    """A mask [batch, tokens so far] as long as a cache of fixed length: what is not there yet does not count."""
    layers = getattr(getattr(cache, "self_attention_cache", cache), "layers", ())
    longest = max([0, *(layer.max_cache_len for layer in layers if hasattr(layer, "max_cache_len"))])
    if not isinstance(mask, Tensor) or mask.dim() != 2 or mask.shape[1] >= longest:
        return mask
    return nn.functional.pad(mask, (0, longest - mask.shape[1]), value=0)


def windowed(entry: nn.Module) -> bool:
    """Whether tokens of a stack see no further than a window, in some of its layers."""
    config = getattr(entry, "config", None)
    types = getattr(config, "layer_types", None)
    if types:
        return any(each != "full_attention" for each in types)
    return any(getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))


def _pairs(mask: Tensor, added: int) -> Tensor:
    """A mask of pairs [batch, heads, tokens, tokens] with rows in front, which see one another up to themselves."""
    shut = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
    wide = nn.functional.pad(mask, (added, 0), value=_seen(mask))
    top = torch.full((*mask.shape[:2], added, wide.shape[3]), shut, dtype=mask.dtype, device=mask.device)
    mine = torch.ones(added, wide.shape[3], dtype=torch.bool, device=mask.device).tril()
    return torch.cat([top.masked_fill(mine, _seen(mask)), wide], 2)


def _of_pairs(name: str, value: Any) -> bool:
    """Whether an argument beside the mask says of pairs of tokens which see which, or which stand for which."""
    says = name.endswith(("_mask", "_mapping")) and not name.startswith(("attention", "encoder", "cross"))
    return says and isinstance(value, Tensor) and value.dim() == 3


def _seen(mask: Tensor) -> float:
    """What stands in a mask where something is seen: 0 is added where it is one of pairs, and no truth values."""
    return 0.0 if mask.dim() == 4 and mask.dtype != torch.bool else True


def _fixed() -> Exception:
    return fail(
        "mask-fixed",
        "the sequence grows, and the mask given is made for a fixed one",
        hint="give a mask [batch, tokens]",
    )
