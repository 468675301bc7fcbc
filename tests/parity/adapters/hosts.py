"""Tiny hosts of the fixtures, for the transformers that adapters pins and for the one that peftref runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as tf
from safetensors.torch import load_file, save_file

FIXTURES = Path(__file__).resolve().parent / "fixtures"
TEXT: dict[str, Any] = {"vocab_size": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
WIDE: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
BOTH: dict[str, Any] = {
    f"{stack}_{name}": value
    for stack in ("encoder", "decoder")
    for name, value in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 24))
}

HOSTS: dict[str, Any] = {
    "bert": lambda: tf.BertForMaskedLM(tf.BertConfig(**TEXT, **WIDE, max_position_embeddings=16)),
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**TEXT, **WIDE, num_key_value_heads=1)),
    "gpt2": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(**TEXT, n_embd=16, n_layer=2, n_head=2, n_positions=16)),
    "t5": lambda: tf.T5ForConditionalGeneration(
        tf.T5Config(
            vocab_size=16, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2,
            relative_attention_num_buckets=8, decoder_start_token_id=0,
        )
    ),
    "bart": lambda: tf.BartForConditionalGeneration(
        tf.BartConfig(**TEXT, **BOTH, d_model=16, max_position_embeddings=16, decoder_start_token_id=2)
    ),
    "vit": lambda: tf.ViTForImageClassification(tf.ViTConfig(**WIDE, image_size=8, patch_size=4, num_labels=3)),
}  # fmt: skip


def host(family: str) -> Any:
    """The host of a family as its fixture has it, in double precision."""
    kind = type(HOSTS[family]())
    return kind.from_pretrained(FIXTURES / family, attn_implementation="eager").double().eval()


def write_host(family: str) -> None:
    """Writes the host of a family, with an offset on every parameter so that no gain is 1 and no shift 0, and what it is run on.

    Both are kept and not drawn again: normal numbers have other last digits with other vector instructions.
    """
    torch.manual_seed(0)
    model = HOSTS[family]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(FIXTURES / family, safe_serialization=True)
    generator = torch.Generator().manual_seed(1)
    if family == "vit":
        given = {"pixel_values": torch.randn(2, 3, 8, 8, generator=generator, dtype=torch.double)}
    else:
        ids = torch.randint(3, 16, (2, 5), generator=generator)
        both = family in ("t5", "bart")
        given = {"input_ids": ids} | ({"decoder_input_ids": ids[:, :4].contiguous()} if both else {})
    save_file(given, FIXTURES / family / "batch.safetensors")


def batch(family: str) -> dict[str, torch.Tensor]:
    """What the host of a family is run on."""
    return load_file(FIXTURES / family / "batch.safetensors")
