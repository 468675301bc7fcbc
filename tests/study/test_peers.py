"""The benchmark beside peft runs every technique that peft has, in the task and with the words that peft wants, or says why not."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig

from benchmarks import stages
from benchmarks.peers import Effort, known, measure
from peftref.design.load import load
from tests.small import small


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> stages.Stage:
    def config() -> LlamaConfig:
        return LlamaConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
            vocab_size=96, pad_token_id=0,
        )  # fmt: skip

    plans = {**stages.PLANS, "tiny": stages.Plan(config, 2, 6)}
    monkeypatch.setattr(stages, "PLANS", plans)
    return stages.stage("tiny", "cpu", torch.float32)


def test_what_cannot_be_exchanged_is_timed_too() -> None:
    assert {"corda", "loftq", "qalora", "adamss", "poly", "cpt", "multitask_prompt", "p_tuning"} <= set(known())


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("poly", "SEQ_CLS"),
        ("multitask_prompt", "SEQ_CLS"),
        ("cpt", "CAUSAL_LM"),
        ("corda", "SEQ_CLS"),
        ("loftq", "SEQ_CLS"),
    ],
)
def test_peft_runs_beside_and_trains_as_much(tiny: stages.Stage, name: str, task: str) -> None:
    (record,) = measure(tiny, [small(load(name))], Effort(rounds=1, seconds=1))
    assert record["problem"] is None
    assert record["task"] == task
    assert record["trained"] == record["trained_peft"] > 0
    assert record["ratio_to_peft"] > 0
    assert record["rounds"] == 1


@pytest.mark.parametrize("name", ["lora", "prompt"])
def test_models_are_called_under_autocast(tiny: stages.Stage, name: str) -> None:
    (plain,), (halved,) = (
        measure(tiny, [small(load(name))], Effort(rounds=1, seconds=1, autocast=autocast)) for autocast in (False, True)
    )
    assert halved["problem"] is None
    assert halved["trained"] == halved["trained_peft"] == plain["trained"]
    assert halved["saved"] != plain["saved"]


def test_what_peft_makes_another_technique_of_is_told_and_not_timed(tiny: stages.Stage) -> None:
    (record,) = measure(tiny, [load("qalora", r=4)], Effort(rounds=1, seconds=1))
    assert "GPTQ" in record["problem"]
    assert record["trained_peft"] is None
    assert record["ratio_to_peft"] is None
    assert record["ratio_to_frozen_host"] > 0


def test_what_peft_has_not_is_timed_beside_the_frozen_host(tiny: stages.Stage) -> None:
    (record,) = measure(tiny, [small(load("houlsby"))], Effort(rounds=1, seconds=1))
    assert "no-peer" in record["problem"]
    assert record["ratio_to_peft"] is None
    assert record["ratio_to_frozen_host"] > 0
