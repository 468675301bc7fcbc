"""Tokens counted after what stands in front of the keys: as if every position were moved, wherever a host adds positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tf

from peftref.design.load import load
from peftref.modules.attach import attach, set_active
from peftref.modules.container import CONTAINER
from tests.hosts.families import build, inputs

TOKENS = 3
_WIDE: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99}
MORE: dict[str, Any] = {
    "opt": lambda: tf.OPTConfig(**_WIDE, ffn_dim=48, max_position_embeddings=64, word_embed_proj_dim=32),
    "roberta": lambda: tf.RobertaConfig(**_WIDE, intermediate_size=48),
}
TABLES = {
    "bert": "embeddings.position_embeddings",
    "roberta": "embeddings.position_embeddings",
    "gpt2": "wpe",
    "opt": "decoder.embed_positions",
    "bart": "decoder.embed_positions",
}


def host(family: str) -> Any:
    if family not in MORE:
        return build(family)
    torch.manual_seed(0)
    return tf.AutoModel.from_config(MORE[family]()).eval()


def prefix(family: str, counted: bool) -> Any:
    technique = load("prefix", tokens=TOKENS, counted=counted)
    return technique.moved("decoder.attention.core") if family in ("bart", "t5") else technique


def padded(model: Any) -> dict[str, torch.Tensor]:
    """A batch of which one sample is padded in front."""
    mask = torch.ones_like(inputs(model)["input_ids"])
    if not model.config.is_encoder_decoder:
        mask[1, :2] = 0
    return {**inputs(model), "attention_mask": mask}


def attached(family: str, counted: bool) -> Any:
    model = host(family)
    attach(model, prefix(family, counted))
    return model


@pytest.mark.parametrize("family", list(TABLES))
def test_rows_of_a_table_are_moved(family: str) -> None:
    moved, model = attached(family, counted=False), attached(family, counted=True)
    table = moved.get_submodule(TABLES[family])
    with torch.no_grad():
        moved_out = moved(**padded(moved))[0]
        table.weight.copy_(table.weight.roll(-TOKENS, 0))
        here, wanted = model(**padded(model))[0], moved(**padded(moved))[0]
    torch.testing.assert_close(here, wanted, rtol=1e-5, atol=1e-5)
    assert (here - moved_out).abs().max() > 1e-4


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_angles_are_moved(family: str) -> None:
    moved, model = attached(family, counted=False), attached(family, counted=True)
    batch = padded(model)
    positions = torch.arange(7)[None].expand(2, -1)
    with torch.no_grad():
        wanted = moved(**batch, position_ids=positions + TOKENS)[0]
        torch.testing.assert_close(model(**batch)[0], wanted)
        torch.testing.assert_close(model(**batch, position_ids=positions)[0], wanted)
        assert (moved(**batch)[0] - wanted).abs().max() > 1e-5


@pytest.mark.parametrize("family", ["t5", "vit"])
def test_what_has_no_positions_is_left(family: str) -> None:
    moved, model = attached(family, counted=False), attached(family, counted=True)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs(model))[0], moved(**inputs(moved))[0], rtol=0, atol=0)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_in_steps_with_a_cache(family: str) -> None:
    model = attached(family, counted=True)
    ids = inputs(model)["input_ids"]
    with torch.no_grad():
        whole = model(input_ids=ids)[0]
        first = model(input_ids=ids[:, :4], use_cache=True)
        rest = model(input_ids=ids[:, 4:], past_key_values=first.past_key_values)[0]
    torch.testing.assert_close(rest, whole[:, 4:], rtol=1e-4, atol=1e-5)


def test_several_and_none() -> None:
    model = build("llama")
    plain = model(**inputs(model))[0]
    one, two = attach(model, prefix("llama", True), "one"), attach(model, prefix("llama", True), "two", seed=1)
    other = build("llama")
    for name, seed in (("one", 0), ("two", 1)):
        attach(other, prefix("llama", False), name, seed=seed)
    for each in (model, other):
        set_active(each, ["one", "two"])
    positions = torch.arange(7)[None] + 2 * TOKENS
    torch.testing.assert_close(model(**inputs(model))[0], other(**inputs(other), position_ids=positions)[0])
    one.disable()
    torch.testing.assert_close(model(**inputs(model))[0], plain, rtol=0, atol=0)
    one.detach()
    two.detach()
    assert CONTAINER not in model._modules
    assert not [module for module in model.modules() if "forward" in vars(module)]
    torch.testing.assert_close(model(**inputs(model))[0], plain, rtol=0, atol=0)


def test_what_stays_is_read_by_the_head() -> None:
    model = build("bert", "SequenceClassification")
    attach(model, load("prompt", tokens=TOKENS, stays=True))
    batch = inputs(model)
    with torch.no_grad():
        rows = model.bert(**batch).last_hidden_state
        assert rows.shape[1] == batch["input_ids"].shape[1] + TOKENS
        pooled = torch.tanh(model.bert.pooler.dense(rows[:, 0]))
        torch.testing.assert_close(model(**batch).logits, model.classifier(pooled))


def test_what_stays_is_given_by_a_decoder() -> None:
    model = build("gpt2", "CausalLM")
    taken = attach(model, load("prompt", tokens=TOKENS))
    batch = inputs(model)
    with torch.no_grad():
        wanted = model(**batch).logits
        taken.detach()
        attach(model, load("prompt", tokens=TOKENS, stays=True))
        here = model(**batch).logits
    assert here.shape[1] == wanted.shape[1] + TOKENS
    torch.testing.assert_close(here[:, TOKENS:], wanted)
