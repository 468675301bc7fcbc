"""Inputs with which a model can run once, from its signature and the sizes in its config."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

BATCH, TOKENS, SAMPLES, FRAMES = 2, 8, 16000, 128


def inputs_of(model: PreTrainedModel, device: str = "meta") -> tuple[dict[str, torch.Tensor], ...]:
    """The sets of inputs to try, the fullest first: token ids [batch, tokens], pixels [batch, channels, height, width], …"""
    taken = inspect.signature(model.forward).parameters
    made: dict[str, torch.Tensor] = {}
    for name, maker in _MAKERS.items():
        wanted = name in taken and (name == model.main_input_name or _has_part(model.config, name))
        if wanted:
            made[name] = maker(_part(model.config, name), device)
    only = {
        name: tensor for name, tensor in made.items() if name == model.main_input_name or name.startswith("decoder")
    }
    return (made,) if only == made or not only else (made, only)


def _ids(config: Any, device: str) -> torch.Tensor:
    return torch.ones((BATCH, TOKENS), dtype=torch.long, device=device)


def _pixels(config: Any, device: str) -> torch.Tensor:
    size = getattr(config, "image_size", 224)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    film = (config.num_frames,) if getattr(config, "num_frames", None) else ()
    return torch.empty((BATCH, *film, getattr(config, "num_channels", 3), height, width), device=device)


def _features(config: Any, device: str) -> torch.Tensor:
    bins = getattr(config, "num_mel_bins", None)
    length = getattr(config, "max_source_positions", None)
    if bins and length:  # two strides of the stem bring 2 * length frames down to length
        return torch.empty((BATCH, bins, 2 * length), device=device)
    return torch.empty((BATCH, FRAMES, bins or 80), device=device)


def _sound(config: Any, device: str) -> torch.Tensor:
    length = getattr(config, "max_length", None)
    if getattr(config, "num_mel_bins", None) and length:
        return torch.empty((BATCH, length, config.num_mel_bins), device=device)
    return torch.empty((BATCH, SAMPLES), device=device)


_MAKERS = {
    "input_ids": _ids,
    "pixel_values": _pixels,
    "input_features": _features,
    "input_values": _sound,
    "decoder_input_ids": _ids,
}
_PARTS = {
    "input_ids": ("text_config",),
    "pixel_values": ("vision_config",),
    "input_features": ("audio_config",),
    "input_values": ("audio_config", "speech_config"),
}


def _part(config: PreTrainedConfig, name: str) -> Any:
    """The part of a config that describes the modality of an input."""
    return next((getattr(config, part) for part in _PARTS.get(name, ()) if getattr(config, part, None)), config)


def _has_part(config: PreTrainedConfig, name: str) -> bool:
    if name == "decoder_input_ids":
        return bool(getattr(config, "is_encoder_decoder", False))
    return _part(config, name) is not config
