"""Tiny hosts of many families with weights of some size, so that what they compute can be told apart."""

from __future__ import annotations

import torch
import transformers as tf

from tests.hosts.configs import FAMILIES


def build(family: str) -> tf.PreTrainedModel:
    """A tiny host with weights of some size, in evaluation mode."""
    torch.manual_seed(0)
    model: tf.PreTrainedModel = tf.AutoModel.from_config(FAMILIES[family]()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def inputs(model: tf.PreTrainedModel) -> dict[str, torch.Tensor]:
    """Token ids without padding, or an image."""
    torch.manual_seed(1)
    if model.main_input_name == "pixel_values":
        return {"pixel_values": torch.randn(2, 3, 16, 16)}
    ids = torch.randint(3, 99, (2, 6))
    return (
        {"input_ids": ids, "decoder_input_ids": ids[:, :4]} if model.config.is_encoder_decoder else {"input_ids": ids}
    )
