"""Hosts whose layers hold tokens before samples: techniques see samples first, as everywhere, whatever the host makes of its axes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tf
from torch import Tensor

from peftref.design.load import load, read
from peftref.host.locate.resolve import resolve
from peftref.modules.attach import attach
from peftref.modules.per_sample import per_sample
from tests.modules.running.techniques import shake
from tests.tiny import PAIR, TEXT

torch.set_num_threads(1)
WIDTHS = {name: size for name, size in PAIR.items() if name != "decoder_start_token_id"}
HOSTS: dict[str, Any] = {
    "xlnet": lambda: tf.XLNetConfig(**TEXT, d_model=24, n_layer=2, n_head=4, d_inner=48, dropout=0.0),
    "fsmt": lambda: tf.FSMTConfig(**WIDTHS, langs=["en", "de"], src_vocab_size=99, tgt_vocab_size=99, dropout=0.0),
}
NEAR = {"rtol": 1e-4, "atol": 1e-4}
"""FSMT runs in single precision only; of another sample's tokens, values would be apart by whole numbers."""
MIXING = """
name: m
title: M
insert:
  - at: [SLOT]
    leaves: {G: {shape: [1, d_in], init: {normal: 1.0}}}
    equation: h' = h + mean_tokens(sum(sigmoid(G @ x))) * h
"""


def host(family: str) -> Any:
    """A small host with weights of some size."""
    torch.manual_seed(0)
    model = tf.AutoModel.from_config(HOSTS[family]()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def run(model: Any, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """The last vectors; of a pair of stacks, the encoder's, and the decoder's where nothing is padded."""
    more = {"decoder_input_ids": ids.flip(1)} if model.config.is_encoder_decoder else {}
    given = model(ids, attention_mask=torch.ones_like(ids) if mask is None else mask, use_cache=False, **more)
    found: Tensor = given.encoder_last_hidden_state if more and mask is not None else given[0]
    return found


def drawn(rows: int) -> Tensor:
    return torch.randint(3, 99, (rows, 5), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", HOSTS)
def test_which_places_hold_tokens_first_is_found(family: str) -> None:
    sites = resolve(HOSTS[family]()).sites
    assert all(site.tokens_first for site in sites if site.within)
    looked_up = {site.tokens_first for site in sites if site.slot == "embedding.tokens"}
    assert looked_up == {family == "xlnet"}
    assert not any(site.tokens_first for site in resolve("bert-base").sites)


@pytest.mark.parametrize("family", HOSTS)
@pytest.mark.parametrize("slot", ["attention.query", "attention.output", "ffn.up"])
def test_what_looks_at_all_tokens_of_a_sample_does_not_see_other_samples(family: str, slot: str) -> None:
    model = host(family)
    shake(attach(model, read(MIXING.replace("SLOT", slot))))
    ids = drawn(3)
    together = run(model, ids)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], run(model, ids[i : i + 1]), **NEAR)


def test_what_looks_at_all_tokens_of_a_sample_does_not_see_its_padding() -> None:
    """XLNet counts distances, so that padding in front changes nothing."""
    model = host("xlnet")
    shake(attach(model, read(MIXING.replace("SLOT", "attention.query"))))
    ids, mask = drawn(2), torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    both = run(model, ids, mask)
    torch.testing.assert_close(both[1:], run(model, ids[1:]), **NEAR)
    torch.testing.assert_close(both[:1, 2:], run(model, ids[:1, 2:]), **NEAR)


@pytest.mark.parametrize("family", HOSTS)
@pytest.mark.parametrize("rows", [4, 5])
def test_each_sample_has_its_own_technique(family: str, rows: int) -> None:
    """Also where there are as many samples as tokens, so that a wrong axis would not be seen by its length."""
    model = host(family)
    linear = ["attention.query", "attention.key", "attention.value", "attention.output", "embedding.tokens"]
    for name, technique in {
        "one": load("lora", r=3).moved(*linear),
        "two": load("houlsby", bottleneck=4),
        "three": load("layernorm"),
    }.items():
        shake(attach(model, technique, name))
    ids, names = drawn(rows), ["two", None, "one", "three", "two"][:rows]
    with per_sample(model, names):
        mixed = run(model, ids)
    for i, name in enumerate(names):
        with per_sample(model, [name]):
            torch.testing.assert_close(mixed[i : i + 1], run(model, ids[i : i + 1]), **NEAR)
