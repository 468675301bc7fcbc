"""Tiny hosts by how they count positions and what their tokens see, with weights of some size."""

from __future__ import annotations

from typing import Any

import torch
import transformers as tf

from tests.tiny import PAIR, T5, TEXT, WIDE

WINDOW = 4
GROUPED: dict[str, Any] = {"num_key_value_heads": 2, "head_dim": 8}
CAUSAL: dict[str, Any] = {
    "llama": lambda: tf.LlamaConfig(**TEXT, **WIDE, num_key_value_heads=2),
    "gpt2": lambda: tf.GPT2Config(**TEXT, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "opt": lambda: tf.OPTConfig(
        **TEXT, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=32,
        max_position_embeddings=64,
    ),
    "bloom": lambda: tf.BloomConfig(**TEXT, hidden_size=32, n_layer=2, n_head=4),
    "falcon": lambda: tf.FalconConfig(
        **TEXT, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_kv_heads=2, new_decoder_architecture=True,
        alibi=False,
    ),
    "gpt_neo": lambda: tf.GPTNeoConfig(
        **TEXT, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], window_size=32,
        max_position_embeddings=64,
    ),
    "mistral": lambda: tf.MistralConfig(**TEXT, **WIDE, **GROUPED, sliding_window=WINDOW),
    "gemma2": lambda: tf.Gemma2Config(**TEXT, **WIDE, **GROUPED, sliding_window=WINDOW, query_pre_attn_scalar=8),
}  # fmt: skip
"""rotary; a table; a table with an offset; ALiBi; rotary, kept once for each head; a table; rotary within a window; the same in
every other layer."""
OWN = ("bloom", "falcon", "gpt_neo")
"""They compute attention themselves, with a cache."""
ENCODERS: dict[str, Any] = {
    "bert": lambda: tf.BertConfig(**TEXT, **WIDE),
    "roberta": lambda: tf.RobertaConfig(**TEXT, **WIDE, max_position_embeddings=64),
    "modernbert": lambda: tf.ModernBertConfig(
        **TEXT, **WIDE, cls_token_id=1, sep_token_id=2, local_attention=WINDOW, global_attn_every_n_layers=2
    ),
}
"""A table; a table counted from the mask; rotary within a window that looks both ways."""
PAIRS: dict[str, Any] = {
    "t5": lambda: tf.T5Config(**T5, dropout_rate=0.0),
    "bart": lambda: tf.BartConfig(**TEXT, **PAIR),
    "whisper": lambda: tf.WhisperConfig(
        **TEXT, **PAIR, num_mel_bins=8, max_source_positions=10, max_target_positions=40, apply_spec_augment=False,
        suppress_tokens=None, begin_suppress_tokens=None,
    ),
}  # fmt: skip
"""Distances; a table; a table behind an encoder of frames."""
IMAGES: dict[str, Any] = {"vit": lambda: tf.ViTConfig(**WIDE, image_size=16, patch_size=8)}
HOSTS = CAUSAL | ENCODERS | PAIRS | IMAGES
CLASSES = {"t5": "Seq2SeqLM", "bart": "Seq2SeqLM", "whisper": "SpeechSeq2Seq", **dict.fromkeys(CAUSAL, "CausalLM")}


def build(family: str, attention: str = "eager", **config: Any) -> Any:
    """A host in evaluation mode, with its language model head where it generates."""
    torch.manual_seed(0)
    made = HOSTS[family]()
    for key, value in config.items():
        setattr(made, key, value)
    head = CLASSES.get(family)
    auto = tf.AutoModel if head is None else getattr(tf, f"AutoModelFor{head}")
    model = auto.from_config(made, attn_implementation=attention).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def tokens(rows: int = 2, length: int = 7, seed: int = 1) -> torch.Tensor:
    """Token ids without the special ones."""
    return torch.randint(3, 99, (rows, length), generator=torch.Generator().manual_seed(seed))
