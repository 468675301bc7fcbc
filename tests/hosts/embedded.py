"""Tiny hosts whose embeddings are stored in every way: tables, scaled tables, convolutions in one, two and three axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as tf
from torch import Tensor

from tests.hosts import families
from tests.tiny import PAIR, TEXT, WIDE

Inputs = dict[str, Tensor]
Host = tuple[tf.PreTrainedModel, Inputs]


def _of(config: Any) -> tf.PreTrainedModel:
    torch.manual_seed(0)
    model: tf.PreTrainedModel = tf.AutoModel.from_config(config).eval()
    return model


def _tokens(family: str, **config: Any) -> Host:
    model = families.build(family, **config)
    return model, families.inputs(model)


def _gemma() -> Host:
    model = _of(tf.Gemma3TextConfig(**TEXT, **WIDE, num_key_value_heads=2, head_dim=8))
    return model, families.inputs(model)


def _whisper() -> Host:
    config = tf.WhisperConfig(
        **TEXT, **PAIR, num_mel_bins=8, max_source_positions=10, max_target_positions=20, apply_spec_augment=False,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    return _of(config), {
        "input_features": torch.randn(2, 8, 20, generator=generator),
        "decoder_input_ids": torch.randint(3, 99, (2, 4), generator=generator),
    }


def _spectrogram() -> Host:
    model = _of(tf.ASTConfig(**WIDE, max_length=24, num_mel_bins=16, patch_size=8, frequency_stride=6, time_stride=6))
    return model, {"input_values": torch.randn(2, 24, 16, generator=torch.Generator().manual_seed(1))}


def _video() -> Host:
    model = _of(tf.VideoMAEConfig(**WIDE, image_size=16, patch_size=8, num_frames=4, tubelet_size=2))
    return model, {"pixel_values": torch.randn(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(1))}


def _sound() -> Host:
    config = tf.Wav2Vec2Config(
        **WIDE, conv_dim=(16, 16), conv_stride=(5, 2), conv_kernel=(10, 3), num_feat_extract_layers=2,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, mask_time_prob=0.0,
    )  # fmt: skip
    return _of(config), {"input_values": torch.randn(2, 400, generator=torch.Generator().manual_seed(1))}


HOSTS: dict[str, tuple[str, Callable[[], Host]]] = {
    "a table": ("embedding.tokens", lambda: _tokens("llama")),
    "a table beside others": ("embedding.tokens", lambda: _tokens("bert")),
    "a table, scaled by a buffer": ("embedding.tokens", _gemma),
    "a table, scaled by a number": ("encoder.embedding.tokens", lambda: _tokens("bart", scale_embedding=True)),
    "patches of an image": ("embedding.patches", lambda: _tokens("vit")),
    "overlapping patches": ("embedding.patches", _spectrogram),
    "patches of a film": ("embedding.patches", _video),
    "frames, with a margin": ("embedding.stem", _whisper),
    "every other frame": ("embedding.patches", _whisper),
    "frames, one convolution on the other": ("embedding.stem", _sound),
    "frames, projected": ("embedding.patches", _sound),
}
"""By how the embedding is stored: the slot, and what makes the host with its inputs."""


def embedded(kind: str, dtype: torch.dtype = torch.double) -> tuple[str, tf.PreTrainedModel, Inputs]:
    """The slot of an embedding, a tiny host that has it, and inputs of it; numbers in a precision."""
    slot, make = HOSTS[kind]
    model, batch = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return (
        slot,
        model.to(dtype),
        {key: each.to(dtype) if each.is_floating_point() else each for key, each in batch.items()},
    )
