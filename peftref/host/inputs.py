"""Inputs with which a model can run once, from its signature and the sizes in its config: on CPU, with real numbers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from peftref.host.placeholders import with_placeholders

BATCH, TOKENS, SAMPLES, FRAMES = 2, 8, 16000, 128


def inputs_of(model: PreTrainedModel) -> tuple[dict[str, Tensor], ...]:
    """The sets of inputs to try, the fullest first: token ids [batch, tokens], pixels [batch, channels, height, width], …

    Where token ids hold the places of an image's or a sound's vectors, there are as many as the model makes of it.
    """
    taken = inspect.signature(model.forward).parameters
    required = {name for name, each in taken.items() if each.default is each.empty and each.kind in (0, 1, 3)}
    grid = next((name for name in _GRIDS if name in taken), None)
    made: dict[str, Tensor] = {}
    for name, maker in _MAKERS.items():
        mains = (model.main_input_name, *required)
        if name in taken and (name in mains or _has_part(model.config, name)):
            part = _part(model.config, name)
            made[name] = _patches(part) if grid and name in _PATCHED else maker(part)
    if grid and any(name in made for name in _PATCHED):
        made[grid] = _grid(_part(model.config, "pixel_values"))
    kept = (model.main_input_name, *required)
    only = {name: each for name, each in made.items() if name in kept or name.startswith("decoder") or name in _GRIDS}
    masks = {name: maker(made) for name, maker in _MASKS.items() if name in taken}
    masked = {**made, **{name: mask for name, mask in masks.items() if mask is not None}}
    made |= {name: mask for name, mask in masked.items() if "feature" in name}
    sets = [with_placeholders(model, each, TOKENS) for each in (made, only, masked)]
    return tuple(each for at, each in enumerate(sets) if each and not any(_same(each, other) for other in sets[:at]))


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return {name: each.shape for name, each in one.items()} == {name: each.shape for name, each in other.items()}


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def _ids(config: Any) -> Tensor:
    vocab = int(getattr(config, "vocab_size", 0) or 32)
    special = {value for name, value in vars(config).items() if name.endswith("_id") and isinstance(value, int)}
    free = [token for token in range(3, min(vocab, 500)) if token not in special] or [0]
    chosen = torch.randint(len(free), (BATCH, TOKENS), generator=torch.Generator().manual_seed(1))
    return torch.tensor(free)[chosen]


def _side(config: Any) -> tuple[int, int]:
    size = next((found for name in _SIDES if (found := getattr(config, name, None))), 224)
    if isinstance(size, Mapping):
        size = (size.get("height", 224), size.get("width", 224))
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return int(height), int(width)


def _channels(config: Any) -> int:
    return next((int(found) for name in _CHANNELS if isinstance(found := getattr(config, name, None), int)), 3)


def _pixels(config: Any) -> Tensor:
    film = (config.num_frames,) if getattr(config, "num_frames", None) else ()
    return _random(BATCH, *film, _channels(config), *_side(config))


def _merge(config: Any) -> int:
    return int(getattr(config, "spatial_merge_size", None) or 2)


def _grid(config: Any) -> Tensor:
    """Frames, rows and columns of patches of each image."""
    return torch.tensor([[1, 2 * _merge(config), 2 * _merge(config)]] * BATCH)


def _patches(config: Any) -> Tensor:
    """Images as rows of pixels, one for each patch."""
    patch = getattr(config, "patch_size", 14)
    patch = patch if isinstance(patch, int) else patch[0]
    frames = getattr(config, "temporal_patch_size", None) or 1
    return _random(int(_grid(config).prod(-1).sum()), _channels(config) * frames * patch * patch)


def _bins(config: Any) -> int | None:
    return next((found for name in _BINS if isinstance(found := getattr(config, name, None), int)), None)


def _features(config: Any) -> Tensor:
    bins = _bins(config)
    length = getattr(config, "max_source_positions", None)
    if (
        getattr(config, "num_mel_bins", None) and length
    ):  # two strides of the stem bring 2 * length frames down to length
        return _random(BATCH, config.num_mel_bins, 2 * length)
    return _random(BATCH, FRAMES, bins or 80)


def _sound(config: Any) -> Tensor:
    length = getattr(config, "max_length", None)
    if getattr(config, "num_mel_bins", None) and length:
        return _random(BATCH, length, config.num_mel_bins)
    channels = getattr(config, "audio_channels", None)
    return _random(BATCH, channels, SAMPLES) if isinstance(channels, int) else _random(BATCH, SAMPLES)


def _width(config: Any) -> int:
    return int(
        next(found for name in ("encoder_hidden_size", "hidden_size", "d_model") if (found := getattr(config, name, 0)))
    )


def _vectors(config: Any) -> Tensor:
    return _random(BATCH, TOKENS, _width(config))


def _series(config: Any) -> Tensor:
    return _random(BATCH, int(getattr(config, "context_length", 64)), int(getattr(config, "num_input_channels", 1)))


def _boxes(config: Any) -> Tensor:
    return torch.tensor([[10, 20, 30, 40]]).expand(BATCH, TOKENS, 4).clone()


_MAKERS: dict[str, Callable[[Any], Tensor]] = {
    "input_ids": _ids,
    "bbox": _boxes,
    "pixel_values": _pixels,
    "input_features": _features,
    "input_values": _sound,
    "decoder_input_ids": _ids,
    "hidden_states": _vectors,
    "inputs_embeds": _vectors,
    "query_embeds": _vectors,
    "encoder_hidden_states": _vectors,
    "past_values": _series,
}
_PARTS = {
    "input_ids": ("text_config", "llm_config", "decoder_config"),
    "pixel_values": ("vision_config",),
    "input_features": ("audio_config", "encoder_config"),
    "input_values": ("audio_config", "speech_config"),
}
_PATCHED = ("pixel_values", "hidden_states")
_GRIDS = ("image_grid_thw", "grid_thw")
_SIDES = ("image_size", "img_size", "input_size", "crop_size")
_CHANNELS = ("num_channels", "in_channels", "in_chans", "num_channels_in")
_BINS = ("num_mel_bins", "feature_size", "input_feat_per_channel", "n_mels", "mel_bins", "num_features", "input_dim")


def _mask_of(name: str, axis: int) -> Callable[[Mapping[str, Tensor]], Tensor | None]:
    def mask(made: Mapping[str, Tensor]) -> Tensor | None:
        found = made.get(name)
        return None if found is None else torch.ones((found.shape[0], found.shape[axis]), dtype=torch.long)

    return mask


_MASKS: dict[str, Callable[[Mapping[str, Tensor]], Tensor | None]] = {
    "attention_mask": _mask_of("input_ids", 1),
    "input_features_mask": _mask_of("input_features", -1),
    "feature_attention_mask": _mask_of("input_features", -1),
    "bbox": lambda made: _boxes(None) if "input_ids" in made else None,
}
"""What some models need though their signature does not say so."""


def _part(config: PreTrainedConfig, name: str) -> Any:
    """The part of a config that describes the modality of an input."""
    return next((getattr(config, part) for part in _PARTS.get(name, ()) if getattr(config, part, None)), config)


def _has_part(config: PreTrainedConfig, name: str) -> bool:
    if name == "decoder_input_ids":
        return bool(getattr(config, "is_encoder_decoder", False))
    return _part(config, name) is not config
