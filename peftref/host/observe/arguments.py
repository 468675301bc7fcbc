"""What an argument of a model's forward holds, by its name and the sizes in the config: tensors on CPU, the likeliest form first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

BATCH, TOKENS, SAMPLES, FRAMES = 2, 8, 8000, 128
ROUND = 15360
"""As many samples as every usual frame divides."""

Forms = tuple[Tensor, ...]


def part_of(config: PreTrainedConfig, name: str) -> Any:
    """The part of a config that describes the modality of an argument, the config itself where there is none."""
    parts = (getattr(config, part, None) for part in _PARTS.get(name, ()))
    return next((part for part in parts if isinstance(part, PreTrainedConfig)), config)


def patches(config: Any) -> Forms:
    """Images as rows of pixels, one for each patch: [patches, pixels], [patches, channels, side, side], the same in a batch of one."""
    channels, patch = _channels(config), _patch(config)
    frames = getattr(config, "temporal_patch_size", None) or getattr(config, "patch_temporal", None) or 1
    count = int(grid(config).prod(-1).sum())
    squares = _random(count, channels, patch, patch)
    return _random(count, channels * frames * patch * patch), squares, squares[None]


def grid(config: Any) -> Tensor:
    """Frames, rows and columns of patches of each image."""
    side = 2 * int(getattr(config, "spatial_merge_size", None) or 2)
    return torch.tensor([[1, side, side]] * BATCH)


def boxes(_: Any) -> Forms:
    """A box for each token."""
    return (torch.tensor([[10, 20, 30, 40]]).expand(BATCH, TOKENS, 4).clone(),)


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def _found(config: Any, *names: str) -> Iterator[int]:
    """The whole numbers that a config has under some names, each once."""
    found = (getattr(config, name, None) for name in names)
    return iter(dict.fromkeys(each for each in found if isinstance(each, int) and not isinstance(each, bool) and each))


def _ids(config: Any) -> Forms:
    """Token ids [batch, tokens]; where there are codebooks, one of each for a token, as a last axis and as rows of the batch."""
    vocab = int(getattr(config, "vocab_size", 0) or 32)
    special = {value for name, value in vars(config).items() if name.endswith("_id") and isinstance(value, int)}
    free = torch.tensor([token for token in range(3, min(vocab, 500)) if token not in special] or [0])

    def chosen(*shape: int) -> Tensor:
        return free[torch.randint(len(free), shape, generator=torch.Generator().manual_seed(1))]

    books = next(_found(config, "num_codebooks", "num_channels"), None)
    several = [(BATCH, TOKENS, books), (BATCH, TOKENS, books + 1), (BATCH * books, TOKENS)] if books else []
    return tuple(chosen(*shape) for shape in [(BATCH, TOKENS), *several])


def _decoder_ids(config: Any) -> Forms:
    """Token ids for a decoder, which may have codebooks though its encoder has none."""
    decoder = getattr(config, "decoder_config", None)
    return (_ids(config)[0], *_ids(decoder if isinstance(decoder, PreTrainedConfig) else config)[1:])


def _side(config: Any) -> tuple[int, int]:
    size = next((found for name in _SIDES if (found := getattr(config, name, None))), 224)
    if isinstance(size, Mapping):
        size = (size.get("height", 224), size.get("width", 224))
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return int(height), int(width)


def _channels(config: Any) -> int:
    return next(_found(config, *_CHANNELS), 3)


def _patch(config: Any) -> int:
    patch = getattr(config, "patch_size", 14)
    return patch if isinstance(patch, int) else int(patch[0])


def _pixels(config: Any) -> Forms:
    """Images [batch, channels, height, width]; two for each sample; in tiles; as rows of patches; all patches in one strip."""
    film = (config.num_frames,) if getattr(config, "num_frames", None) else ()
    channels, (height, width) = _channels(config), _side(config)
    first = (BATCH, *film, channels, height, width)
    others = [(BATCH, 2, channels, height, width), (BATCH, channels, 256, 256), (BATCH, channels, 512, 512)]
    if tiles := getattr(config, "max_num_tiles", None):
        others.append((BATCH, 1, tiles, channels, height, width))
    if "patch_size" in vars(config):
        patch = _patch(config)
        others += [(BATCH, 36, channels * patch * patch), (1, channels, patch, BATCH * 16 * patch)]
    return tuple(_random(*shape) for shape in (first, *others))


def _features(config: Any) -> Forms:
    """Spectra [batch, frames, bins], as an image of one channel, [batch, bins, frames], and several frames in one."""
    bins = next(_found(config, *_BINS), 80)
    length = getattr(config, "max_source_positions", None)
    if (
        getattr(config, "num_mel_bins", None) and length
    ):  # two strides of the stem bring 2 * length frames down to length
        return (_random(BATCH, config.num_mel_bins, 2 * length),)
    stacked = (bins * each for each in (next(_found(config, "num_stacked_frames"), 2), 4))
    shapes = [(FRAMES, bins), (1, FRAMES, bins), (bins, FRAMES), (FRAMES, 128), *((FRAMES, each) for each in stacked)]
    return tuple(_random(BATCH, *shape) for shape in shapes)


def _sound(config: Any) -> Forms:
    length = getattr(config, "max_length", None)
    if getattr(config, "num_mel_bins", None) and length:
        return (_random(BATCH, length, config.num_mel_bins),)
    channels = getattr(config, "audio_channels", None)
    first = (BATCH, channels, SAMPLES) if isinstance(channels, int) else (BATCH, SAMPLES)
    return tuple(_random(*shape) for shape in (first, (BATCH, 1, ROUND), (BATCH, ROUND)))


def _vectors(config: Any) -> Forms:
    """Vectors [batch, tokens, width] of each width that the config names, and an image where it names none."""
    widths = _found(config, "encoder_hidden_size", "hidden_size", "d_model", "input_dim", "input_size")
    made = [_random(BATCH, TOKENS, width) for width in widths]
    windows = next(_found(config, "num_windows"), None)
    if windows and made:
        made.append(_random(BATCH * windows, *made[0].shape[1:]))
    return tuple(made) or _pixels(config)


def _columns(config: Any) -> Forms:
    return tuple(each.mT for each in _vectors(config))


def _series(config: Any) -> Forms:
    return (_random(BATCH, int(getattr(config, "context_length", 64)), int(getattr(config, "num_input_channels", 1))),)


def _placed(config: Any) -> Forms:
    """Patches [batch, patches, 2 + pixels] that begin with their row and column."""
    pixels = _random(BATCH, 16, next(_found(config, "patch_embed_hidden_size"), 768))
    places = torch.cartesian_prod(torch.arange(1, 5), torch.arange(1, 5)).float()
    return (torch.cat([places.expand(BATCH, -1, -1), pixels], dim=-1),)


def _ones(*axes: str | int, dtype: torch.dtype = torch.long) -> Callable[[Any], Forms]:
    """Ones [batch, …], each axis of a size that is given or that the config names."""
    return lambda config: (
        torch.ones(
            BATCH, *(each if isinstance(each, int) else next(_found(config, each), 1) for each in axes), dtype=dtype
        ),
    )


def _of_width(*names: str) -> Callable[[Any], Forms]:
    return lambda config: (_random(BATCH, TOKENS, next(_found(config, *names), 1)),)


KNOWN: dict[str, Callable[[Any], Forms]] = {
    "input_ids": _ids,
    "bbox": boxes,
    "pixel_values": _pixels,
    "input_features": _features,
    "input_values": _sound,
    "decoder_input_ids": _decoder_ids,
    "hidden_states": _vectors,
    "inputs_embeds": _vectors,
    "query_embeds": _vectors,
    "encoder_hidden_states": _of_width("encoder_hidden_size", "cross_hidden_size", "hidden_size", "d_model"),
    "past_values": _series,
    "attention_mask": _ones(TOKENS),
}
"""Made where they are the main input, are required, or the config has a part for them."""
RARE: dict[str, Callable[[Any], Forms]] = {
    "inputs": lambda config: (*_ids(config), *_vectors(config)),
    "audio_input_ids": _ids,
    "qformer_input_ids": _ids,
    "image": _pixels,
    "audio_mel": _features,
    "audio_mel_mask": lambda _: (torch.zeros(BATCH, FRAMES, dtype=torch.bool),),
    "latents": _columns,
    "context": _vectors,
    "flattened_patches": _placed,
    "pixel_position_ids": lambda _: (
        torch.cartesian_prod(torch.arange(6), torch.arange(6)).expand(BATCH, -1, -1).clone(),
    ),
    "aspect_ratio_ids": _ones(1),
    "aspect_ratio_mask": _ones(1, "max_num_tiles"),
    "task_inputs": _ones("task_seq_len", dtype=torch.float32),
    "target_sizes": lambda _: (torch.full((BATCH, 2), 4),),
    "image_attention_mask": _ones(TOKENS, 2),
    "mask": _ones(TOKENS, dtype=torch.bool),
    "visual_feats": _of_width("visual_feat_dim"),
    "visual_pos": _of_width("visual_pos_dim"),
    "last_hidden_state": _of_width("input_size", "hidden_size"),
    "states": _of_width("state_dim"),
    "actions": _of_width("act_dim"),
    "returns_to_go": _of_width(),
    "timesteps": _ones(TOKENS),
}
"""Made where they are the main input or required; and where they are taken, when nothing runs without them."""
_PARTS = {
    "input_ids": ("text_config", "llm_config", "decoder_config"),
    "pixel_values": ("vision_config",),
    "input_features": ("audio_config", "encoder_config"),
    "input_values": ("audio_config", "speech_config"),
    "qformer_input_ids": ("qformer_config",),
}
_SIDES = ("image_size", "img_size", "input_size", "crop_size")
_CHANNELS = ("num_channels", "in_channels", "in_chans", "num_channels_in")
_BINS = ("num_mel_bins", "feature_size", "input_feat_per_channel", "n_mels", "mel_bins", "num_features", "input_dim")
