"""Tiny configurations of many families, each with the class that is built from it."""

from __future__ import annotations

from typing import Any

import transformers as tf

from tests.tiny import PAIR, T5, TEXT, WIDE

PROBED: dict[str, Any] = {
    "llama": lambda: tf.LlamaConfig(**TEXT, **WIDE, num_key_value_heads=2),
    "mistral": lambda: tf.MistralConfig(**TEXT, **WIDE, num_key_value_heads=2, head_dim=8),
    "qwen3": lambda: tf.Qwen3Config(**TEXT, **WIDE, num_key_value_heads=2, head_dim=16),
    "gemma2": lambda: tf.Gemma2Config(**TEXT, **WIDE, num_key_value_heads=2, head_dim=8),
    "phi3": lambda: tf.Phi3Config(**TEXT, **WIDE, num_key_value_heads=2),
    "gpt2": lambda: tf.GPT2Config(**TEXT, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "gpt_neox": lambda: tf.GPTNeoXConfig(**TEXT, **WIDE),
    "opt": lambda: tf.OPTConfig(
        **TEXT,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        word_embed_proj_dim=32,
        max_position_embeddings=64,
    ),
    "bert": lambda: tf.BertConfig(**TEXT, **WIDE),
    "roberta": lambda: tf.RobertaConfig(**TEXT, **WIDE, max_position_embeddings=64),
    "electra": lambda: tf.ElectraConfig(**TEXT, **WIDE, embedding_size=16),
    "distilbert": lambda: tf.DistilBertConfig(
        vocab_size=99, dim=32, hidden_dim=48, n_layers=2, n_heads=4, pad_token_id=0
    ),
    "modernbert": lambda: tf.ModernBertConfig(**TEXT, **WIDE, cls_token_id=1, sep_token_id=2),
    "t5": lambda: tf.T5Config(**T5),
    "t5_gated": lambda: tf.T5Config(**T5, feed_forward_proj="gated-gelu"),
    "bart": lambda: tf.BartConfig(**TEXT, **PAIR),
    "vit": lambda: tf.ViTConfig(**WIDE, image_size=16, patch_size=8),
}
"""Found by following the data."""

WALKED: dict[str, Any] = {
    "lilt": lambda: tf.LiltConfig(**TEXT, **(WIDE | {"hidden_size": 48}), max_position_embeddings=64),
}
"""They attend on their own, which is found in what they compute; of two streams, the first is the one that is read."""

MAPPED: dict[str, Any] = {
    "bloom": lambda: tf.BloomConfig(**TEXT, hidden_size=32, n_layer=2, n_head=4),
    "falcon": lambda: tf.FalconConfig(**TEXT, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=False),
    "longformer": lambda: tf.LongformerConfig(
        **TEXT, **WIDE, attention_window=[4, 4], max_position_embeddings=64, sep_token_id=2
    ),
    "mpnet": lambda: tf.MPNetConfig(**TEXT, **WIDE, max_position_embeddings=64),
    "xlnet": lambda: tf.XLNetConfig(**TEXT, d_model=32, n_layer=2, n_head=4, d_inner=48),
    "deberta-v2": lambda: tf.DebertaV2Config(**TEXT, **WIDE, relative_attention=True, pos_att_type=["p2c", "c2p"]),
}
"""They attend on their own and have a map in the catalog."""

FAMILIES = PROBED | WALKED | MAPPED
