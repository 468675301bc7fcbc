"""Modules that peft makes, run beside the compiled ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForSequenceClassification

from peftref.core.problem import PeftrefError
from peftref.design.given import entrant, given
from peftref.design.opaque import Opaque, opaque, opaques
from peftref.exchange.peft.opaque import attach_opaque, count_opaque
from peftref.study.entries import wanted_techniques

BATCH = {"input_ids": torch.arange(3, 17).view(2, 7), "attention_mask": torch.ones(2, 7, dtype=torch.long)}


def host() -> LlamaForSequenceClassification:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, vocab_size=64, pad_token_id=0
    )
    return LlamaForSequenceClassification(config)


@pytest.mark.parametrize("name", [*opaques(), "LORA", "PROMPT_TUNING:num_virtual_tokens=3"])
def test_it_trains_on_the_host_with_the_host_s_own_head(name: str) -> None:
    model, technique = host(), entrant(f"peft:{name}")
    assert isinstance(technique, Opaque)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    counted = count_opaque(model, technique)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    wrapped = attach_opaque(model, technique)
    own = list(wrapped.parameters())
    assert sum(each.numel() for each in own) == counted > 0
    model.score.requires_grad_(True)
    optimizer = torch.optim.AdamW([*own, *model.score.parameters()], lr=0.01)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = model(**BATCH, labels=torch.tensor([0, 1])).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    assert model.score.weight.grad is not None
    assert sum(each.grad is not None for each in own) >= len(own) // 2


def test_a_saved_config_of_peft_gives_what_peft_gives(tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = get_peft_model(host(), LoraConfig(r=3, target_modules=["q_proj", "o_proj"], rank_pattern={"o_proj": 2}))
    theirs.save_pretrained(str(tmp_path / "mine"))
    technique = opaque(f"peft:{tmp_path / 'mine'}")
    assert (technique.name, technique.type) == ("mine", "LORA")
    assert count_opaque(host(), technique) == sum(each.numel() for each in theirs.parameters() if each.requires_grad)
    model = host()
    wrapped = attach_opaque(model, technique, seed=4)
    assert wrapped.mergeable
    out = model(**BATCH).logits
    torch.testing.assert_close(wrapped.theirs(**BATCH).logits, out)
    saved = wrapped.save(tmp_path / "again")
    assert (saved / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("text", "code"),
    [("peft:nothing", "unknown-technique"), ("peft:LORA:r=2", "opaque"), ("peft:none.json", "checkpoint-missing")],
)
def test_what_is_no_technique_is_told(text: str, code: str) -> None:
    with pytest.raises(PeftrefError) as caught:
        given(text)
    assert caught.value.problems[0].code == code


def test_all_that_is_asked_for_is_told_at_once() -> None:
    _, problems = wanted_techniques(["peft:nothing", "nothing"])
    assert [problem.code for problem in problems] == ["unknown-technique", "unknown-technique"]


@pytest.mark.parametrize("name", ["NOTHING", "C3A"])
def test_what_peft_refuses_is_told(name: str) -> None:
    with pytest.raises(PeftrefError) as caught:
        count_opaque(host(), opaque(f"peft:{name}"))
    assert caught.value.problems[0].code == "peer-refuses"
