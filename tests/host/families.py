"""Tiny configurations of many families, each with the class that is built from it."""

from __future__ import annotations

from typing import Any

import torch
import transformers as tf

_T: dict[str, Any] = {"vocab_size": 99, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_W: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_BART: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "decoder_start_token_id": 2,
}
_T5: dict[str, Any] = {
    "vocab_size": 99,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}

PROBED: dict[str, Any] = {
    "llama": lambda: tf.LlamaConfig(**_T, **_W, num_key_value_heads=2),
    "mistral": lambda: tf.MistralConfig(**_T, **_W, num_key_value_heads=2, head_dim=8),
    "qwen3": lambda: tf.Qwen3Config(**_T, **_W, num_key_value_heads=2, head_dim=16),
    "gemma2": lambda: tf.Gemma2Config(**_T, **_W, num_key_value_heads=2, head_dim=8),
    "phi3": lambda: tf.Phi3Config(**_T, **_W, num_key_value_heads=2),
    "gpt2": lambda: tf.GPT2Config(**_T, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "gpt_neox": lambda: tf.GPTNeoXConfig(**_T, **_W),
    "opt": lambda: tf.OPTConfig(
        **_T,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        word_embed_proj_dim=32,
        max_position_embeddings=64,
    ),
    "bert": lambda: tf.BertConfig(**_T, **_W),
    "roberta": lambda: tf.RobertaConfig(**_T, **_W, max_position_embeddings=64),
    "electra": lambda: tf.ElectraConfig(**_T, **_W, embedding_size=16),
    "distilbert": lambda: tf.DistilBertConfig(
        vocab_size=99, dim=32, hidden_dim=48, n_layers=2, n_heads=4, pad_token_id=0
    ),
    "modernbert": lambda: tf.ModernBertConfig(**_T, **_W, cls_token_id=1, sep_token_id=2),
    "t5": lambda: tf.T5Config(**_T5),
    "t5_gated": lambda: tf.T5Config(**_T5, feed_forward_proj="gated-gelu"),
    "bart": lambda: tf.BartConfig(**_T, **_BART),
    "vit": lambda: tf.ViTConfig(**_W, image_size=16, patch_size=8),
}
"""Found by following the data."""

MAPPED: dict[str, Any] = {
    "bloom": lambda: tf.BloomConfig(**_T, hidden_size=32, n_layer=2, n_head=4),
    "falcon": lambda: tf.FalconConfig(**_T, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=False),
    "mpnet": lambda: tf.MPNetConfig(**_T, **_W, max_position_embeddings=64),
    "deberta-v2": lambda: tf.DebertaV2Config(**_T, **_W, relative_attention=True, pos_att_type=["p2c", "c2p"]),
}
"""They attend on their own and have a map in the catalog."""

FAMILIES = PROBED | MAPPED


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
