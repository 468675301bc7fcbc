"""One weight that a host uses in two places: adapting one use leaves the other alone, whether merged or not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

from peftref.core.problem import PeftrefError
from peftref.design.load import load, read
from peftref.modules.attach import attach
from peftref.modules.attached import Attached
from peftref.modules.restore import restore
from tests.hosts.families import build, inputs

HOSTS = ("llama", "gpt2", "t5", "bart")
BOTH = read("""
name: both
title: Both
settings: {r: 2}
insert:
  - at: embedding.tokens
    leaves: {A: {shape: [r, d_in], init: {normal: 0.3}, scope: design}, B: {shape: [d_out, r], init: {normal: 0.3}, scope: design}}
    equation: h' = h + B @ A @ x
  - at: head
    leaves: {A: {shape: [r, d_out], init: {normal: 0.3}, scope: design}, B: {shape: [d_in, r], init: {normal: 0.3}, scope: design}}
    equation: h' = h + A.T @ (B.T @ x)
""")
"""One change of one weight, seen from both of its uses."""


def tied(family: str) -> tf.PreTrainedModel:
    head = "CausalLM" if family in ("llama", "gpt2") else "Seq2SeqLM"
    model = build(family, head, tie_word_embeddings=True)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    return model


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**inputs(model)).logits
    return found


def moved(model: Any, slot: str) -> Attached:
    attached = attach(model, load("lora", r=2).moved(slot))
    torch.manual_seed(1)
    with torch.no_grad():
        for each in attached.parameters():
            each.add_(0.3 * torch.randn_like(each))
    return attached


def weights(model: Any) -> dict[str, torch.Tensor]:
    """Every use of every parameter of the host, by its name."""
    named = model.named_parameters(remove_duplicate=False)
    return {name: value.detach().clone() for name, value in named if not name.startswith("peftref.")}


@pytest.mark.parametrize("family", HOSTS)
@pytest.mark.parametrize("slot", ["head", "embedding.tokens"])
def test_one_use_changes_and_the_other_stays(family: str, slot: str) -> None:
    model = tied(family)
    before, alone = weights(model), logits(model)
    found = moved(model, slot)
    changed = logits(model)
    assert (changed - alone).abs().max() > 1e-3
    assert not found.mergeable
    with pytest.raises(PeftrefError, match="tied-weight"):
        found.merge()
    assert not found.merged
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())
    found.merge(untie=True)
    torch.testing.assert_close(logits(model), changed, rtol=1e-4, atol=1e-5)
    moved_names = {name for name, value in weights(model).items() if not torch.equal(value, before[name])}
    used = {f"{site.path}.weight" for site in found.modules.host.sites if site.slot == slot}
    assert moved_names == used
    found.unmerge()
    assert torch.equal(logits(model), changed)
    found.detach()
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())
    assert model.config.tie_word_embeddings


@pytest.mark.parametrize("family", HOSTS)
def test_an_untied_host_is_saved_and_loaded_as_it_computes(family: str, tmp_path: Path) -> None:
    model = tied(family)
    found = moved(model, "head")
    found.merge(untie=True)
    merged = logits(model)
    other = copy.deepcopy(model)
    Attached(other, "default").modules.taps.clear()
    del other._modules["peftref"]
    other.save_pretrained(tmp_path / "merged")
    loaded = type(model).from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(logits(loaded), merged)
    assert loaded.config.tie_word_embeddings == (family in ("t5", "bart"))  # of these, the two embeddings stay tied


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_change_that_both_uses_agree_on_is_taken_in(family: str) -> None:
    model = tied(family)
    before = weights(model)
    found = attach(model, BOTH)
    assert len(list(found.parameters())) == 2
    changed = logits(model)
    assert found.mergeable
    found.merge()
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    torch.testing.assert_close(logits(model), changed, rtol=1e-4, atol=1e-5)
    found.unmerge()
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())


def test_a_saved_module_finds_its_host_whether_it_was_untied_or_not(tmp_path: Path) -> None:
    model = tied("llama")
    found = moved(model, "embedding.tokens")
    changed = logits(model)
    found.merge(untie=True)
    place = found.save(tmp_path / "saved")
    torch.testing.assert_close(logits(model), changed, rtol=1e-4, atol=1e-5)
    fresh = tied("llama")
    restore(fresh, place)
    assert torch.equal(logits(fresh), changed)


@pytest.mark.parametrize("slot", ["head", "embedding.tokens"])
def test_one_use_is_not_trained_in_place(slot: str) -> None:
    """Training the parameter itself would change both."""
    model = tied("llama")
    with pytest.raises(PeftrefError, match="tied-weight"):
        attach(model, read(f"{{name: m, title: M, tune: [{slot}]}}"))
    assert "peftref" not in model._modules
    both = attach(model, read("{name: m, title: M, tune: [head, embedding.tokens]}"))
    assert [each.shape for each in both.parameters()] == [(99, 32)]
