"""Small configurations: a config with few layers and narrow widths, in which everything that hangs together still fits.

No model is known by name. A field's name says what it is (a width, a number of layers, a token id); all widths are divided by one
number, so that what was a multiple stays one. Which number a class can bear is found by trying.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

_LAYERS = re.compile(
    r"^(num_|n_|no_of_)?((en|de)coder_|hidden_|text_|vision_|audio_|transformer_|attention_|block_|fusion_|prediction_|"
    r"local_|backbone_|depth_|talking_|cross_|self_|fsmt_)*(layers?|blocks?|depth|depths)(_per_stage)?$"
    r"|^[a-z]_layers$|^num_(en|de)coder_(hidden_)?layers$|^num_.*_(transformer|attention|self_attends|cross)_layers$|^num_.*layers$"
)
_WIDTH = re.compile(
    r"size|dim|width|channels|d_model|d_latents|n_embd|d_ff|d_kv|d_head|d_inner|n_inner|hidden|intermediate|rank|features|inner"
)
_NO_WIDTH = re.compile(
    r"vocab|image|patch|kernel|window|stride|position|pos_emb_|max_|num_channels|in_channels|head_count|token|_id$|_ids$|num_hidden"
    r"|layers|batch|cache|chunk|segment|block_size|codebook|input_size|_input|sampl|mel|bins|crop|grid|spatial|temporal|time"
    r"|num_heads|groups|conv_kernel|tile|pool|buckets|state_size|factor|num_features|expansion|merge|sinus|_1d|in_chans|shuffle"
)
_SECTIONS = re.compile(r"section")
_EXPERTS = re.compile(
    r"^(num_|n_)?(local_|routed_|_)*experts$|^moe_num_experts$|^num_local_experts$|^n_routed_experts$"
)
_PERIOD = re.compile(r"period|interval|every|freq|first_k|_step$|layers_block_pattern")
_TOKEN = re.compile(r"(_token|_token_id|_token_index|_token_ids|_id|_index)$")
_HEADS = re.compile(r"^(num|n)_(.*_)?heads?$|^(en|de)coder_attention_heads$|^num_heads$|^heads$|^linear_num_.*_heads$")
_HEAD_WIDTH = re.compile(r"head_dim|head_size|d_head|head_width|kv_channels|^d_kv$|rope|lora|section|qk_")
_PICTURE = re.compile(r"^(image|img|input|crop)_(size|resolution)$")
_FILM = re.compile(r"^num_frames$|^max_source_positions$")


@dataclass(frozen=True, slots=True)
class Scale:
    """How far a config is shrunken: what widths are divided by, how many token ids stay, what image sides are divided by, and
    the lengths of film and sound.

    heads: heads stay as wide as they are, and there are fewer. layers, experts: there are fewer of them.
    """

    widths: int = 8
    vocab: int | None = 512
    image: int = 4
    layers: bool = True
    heads: bool = False
    experts: bool = True


SCALES = (
    Scale(),
    Scale(image=1),
    Scale(heads=True, image=1),
    Scale(widths=4, vocab=None),
    Scale(heads=True, widths=4, vocab=None, image=1),
    Scale(widths=2, vocab=None, image=1),
    Scale(widths=1, vocab=None, image=1),
    Scale(widths=1, vocab=None, image=1, layers=False),
    Scale(widths=32),
    Scale(heads=True, widths=32, image=1),
)
"""What is tried, the smallest first; last what is left where those are too large."""


def shrunken(config: PreTrainedConfig, scale: Scale = SCALES[0]) -> PreTrainedConfig:
    """A copy of a config, and of the configs inside it, with few layers and narrow widths.

    >>> from transformers import LlamaConfig
    >>> small = shrunken(LlamaConfig())
    >>> small.num_hidden_layers, small.hidden_size, small.num_attention_heads, small.vocab_size
    (2, 512, 32, 512)
    """
    small = copy.deepcopy(config)
    ids: dict[int, int] = {}
    for part in _parts(small):
        _shrink(part, scale, ids)
    return small


def _parts(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    """A config and all configs that it holds, each once."""
    seen: set[int] = set()
    queue = [config]
    while queue:
        part = queue.pop()
        if id(part) not in seen:
            seen.add(id(part))
            queue.extend(value for value in vars(part).values() if isinstance(value, PreTrainedConfig))
            yield part


def _shrink(config: PreTrainedConfig, scale: Scale, ids: dict[int, int]) -> None:
    fields = {name: value for name, value in vars(config).items() if not name.startswith("_")}
    changed = _fewer_layers(fields) if scale.layers else {}
    for name, value in fields.items():
        if name not in changed:
            new = _shrunken(name, value, scale, ids)
            if new is not value and new != value:
                changed[name] = new
    for name, value in changed.items():
        vars(config)[name] = value


def _shrunken(name: str, value: Any, scale: Scale, ids: dict[int, int]) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return (
            {key: _shrunken(str(key), item, scale, ids) for key, item in value.items()} if name != "id2label" else value
        )
    if scale.heads and _HEADS.search(name):
        return _each(value, lambda heads: _divided(heads, scale.widths, 1))
    if scale.heads and _HEAD_WIDTH.search(name):
        return value
    if _SECTIONS.search(name) and isinstance(value, (list, tuple)):
        return type(value)(_divided(item, scale.widths, 1) for item in value)
    if "vocab_size" in name and isinstance(value, int):
        return min(value, scale.vocab) if scale.vocab else value
    if _TOKEN.search(name) and scale.vocab:
        return _token(value, scale.vocab, ids)
    if _PICTURE.search(name) and scale.image > 1:
        return _each(
            value, lambda side: side // scale.image if side >= 384 and side % (scale.image * 16) == 0 else side
        )
    if _FILM.search(name) and isinstance(value, int) and value % scale.image == 0 and value > 4:
        return max(4, value // scale.image)
    if _EXPERTS.search(name) and isinstance(value, int):
        return value // 8 if value >= 64 and scale.widths > 1 and scale.experts else value
    if name.endswith("groups") and isinstance(value, int) and value >= 128:  # one for each channel
        return _divided(value, scale.widths, 2)
    if _WIDTH.search(name) and not _NO_WIDTH.search(name):
        return _each(value, lambda width: _divided(width, scale.widths, 2))
    return value


def _divided(width: int, by: int, least: int) -> int:
    """A width divided, where it is a multiple and enough is left."""
    while by > 1 and (width % by or width // by < least):
        by //= 2
    return width // by


def _each(value: Any, change: Any) -> Any:
    """A change of a whole number, or of each in a list."""
    if isinstance(value, (list, tuple)):
        return type(value)(_each(item, change) for item in value)
    return change(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _token(value: Any, vocab: int, ids: dict[int, int]) -> Any:
    """Token ids beyond the shrunken vocabulary are numbered downward from its end, equal ones alike."""

    def moved(token: int) -> int:
        return token if token < vocab else ids.setdefault(token, vocab - 1 - len(ids))

    return _each(value, moved)


def _fewer_layers(fields: Mapping[str, Any]) -> dict[str, Any]:
    """As many layers as show every kind of layer, at least two; and the lists with one entry for each layer cut to them."""
    changed: dict[str, Any] = {}
    for name, count in fields.items():
        if not _LAYERS.search(name):
            continue
        if isinstance(count, (list, tuple)):
            if count and all(type(depth) is int for depth in count) and not _rising(count):  # stages of layers
                changed[name] = _each(count, lambda depth: min(depth, 2))
        elif isinstance(count, int) and not isinstance(count, bool) and count > 2 and not _stages(fields, count):
            kept = _enough(fields, count)
            changed[name] = kept
            for other, value in fields.items():
                if isinstance(value, (list, tuple)) and other not in changed:
                    if len(value) == count:
                        changed[other] = type(value)(value[:kept])
                    elif _numbers_layers(other, value, count):
                        changed[other] = type(value)(item for item in value if item < kept)
    return changed


def _enough(fields: Mapping[str, Any], count: int) -> int:
    """How many of the first layers show every kind of layer that the config speaks of."""
    needed = 2
    for name, value in fields.items():
        if (
            isinstance(value, (list, tuple))
            and len(value) == count
            and all(isinstance(item, (str, bool)) for item in value)
        ):
            needed = max(needed, *(1 + list(value).index(item) for item in set(value)))
        elif isinstance(value, (list, tuple)) and _numbers_layers(name, value, count):
            needed = max(needed, 1 + min(value))
        elif isinstance(value, int) and not isinstance(value, bool) and _PERIOD.search(name) and 1 < value < count:
            needed = max(needed, value + 1)
    return min(count, needed)


def _stages(fields: Mapping[str, Any], count: int) -> bool:
    """Whether a number counts stages, each of several layers."""
    return any(
        _LAYERS.search(name)
        and isinstance(value, (list, tuple))
        and len(value) == count
        and not _rising(value)
        and all(type(item) is int for item in value)
        for name, value in fields.items()
    )


def _rising(numbers: Sequence[Any]) -> bool:
    """Whether a list counts up, as one that numbers layers does."""
    return (
        len(numbers) > 1
        and all(isinstance(n, int) for n in numbers)
        and list(numbers) == sorted(set(numbers))
        and min(numbers) >= 0
    )


def _numbers_layers(name: str, value: Any, count: int) -> bool:
    """Whether a list numbers layers."""
    numbers = bool(value) and all(
        isinstance(item, int) and not isinstance(item, bool) and 0 <= item < count for item in value
    )
    return numbers and re.search(r"layers|indexes|indices|idx", name) is not None and len(value) < count
