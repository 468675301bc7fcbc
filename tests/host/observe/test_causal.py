"""Attention that a model computes itself is causal where a later token changes nothing for the ones before."""

from __future__ import annotations

import pytest
import torch
import transformers as tf

from peftref.host.locate.resolve import resolve
from peftref.host.observe.causal import looks_back_only, small_instance

SMALL = {"vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2}
OWN = {
    "codegen": (lambda: tf.CodeGenConfig(**SMALL, n_embd=32, n_layer=2, n_head=4, rotary_dim=4, n_positions=64), True),
    "gpt_neo": (
        lambda: tf.GPTNeoConfig(
            **SMALL, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]]
        ),
        True,
    ),
    "convbert": (
        lambda: tf.ConvBertConfig(
            vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
            embedding_size=32,
        ),
        False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", OWN)
def test_what_looks_back_is_known_and_random_numbers_go_on(family: str) -> None:
    config, causal = OWN[family]
    before = torch.get_rng_state()
    host = resolve(config())
    assert torch.equal(before, torch.get_rng_state())
    assert [(stack.name, stack.causal) for stack in host.stacks] == [("decoder" if causal else "encoder", causal)]


def test_the_decoder_of_two_stacks_is_tried_by_its_own_tokens() -> None:
    config = tf.FSMTConfig(
        src_vocab_size=99, tgt_vocab_size=99, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48,
    )  # fmt: skip
    assert {stack.name: stack.causal for stack in resolve(config).stacks} == {"encoder": False, "decoder": True}


@pytest.mark.parametrize(("config", "causal"), [(tf.LlamaConfig(), True), (tf.BertConfig(), False)])
def test_it_agrees_with_what_masks_say(config: tf.PreTrainedConfig, causal: bool) -> None:
    with torch.device("meta"):
        model = tf.AutoModel.from_config(config)
    small = small_instance(model)
    assert small is not None
    assert looks_back_only(*small) is causal
