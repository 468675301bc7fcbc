"""Counts against built modules, against published figures, and formulas against their own numbers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from peftref.analyse.count import count
from peftref.design.load import load, read, techniques
from peftref.host.presets import preset_names
from peftref.modules.attach import attach
from tests.hosts.families import CONFIGS, build, stands
from tests.small import small

torch.set_num_threads(1)
PUBLISHED = [
    ("lora", "bert-base", 294_912),
    ("lora", "roberta-large", 786_432),
    ("lora", "llama-2-7b", 4_194_304),
    ("ia3", "bert-base", 55_296),
    ("bitfit", "bert-base", 102_144),
    ("prefix_mlp", "bert-base", 9_864_704),
    ("prompt", "t5-base", 15_360),
]
TEXT_ONLY = {"trainable_tokens", "cpt"}
"""What stands at an embedding matrix."""


def value(formula: str, numbers: dict[str, int]) -> float:
    """A formula of sums, products and powers, computed by python on plain names."""
    names = {name.replace(".", "_"): number for name, number in numbers.items()}
    code = compile(formula.replace("encoder.", "encoder_").replace("decoder.", "decoder_"), "formula", "eval")
    return float(eval(code, {"__builtins__": {}, "ceil": math.ceil, "min": min, "max": max}, names))  # our own text


@pytest.mark.parametrize(("technique", "host", "trained"), PUBLISHED)
def test_published_counts(technique: str, host: str, trained: int) -> None:
    assert count(technique, host).trained == trained


@pytest.mark.parametrize("host", preset_names())
def test_formulas_give_the_counts_on_every_preset(host: str) -> None:
    for technique in map(small, techniques()):
        if technique.name in TEXT_ONLY and host == "vit-base":
            continue
        found = count(technique, host)
        assert value(found.formula, dict(found.numbers)) == found.trained
        assert 0 <= found.inference <= found.stored
        assert found.share == found.trained / found.host_parameters


@pytest.mark.parametrize("family", CONFIGS)
def test_counts_are_those_of_the_built_modules(family: str) -> None:
    for technique in map(small, techniques()):
        if technique.name in TEXT_ONLY and family == "vit":
            continue
        model = build(family)
        if not stands(technique, model):
            continue
        found = count(technique, model)
        attached = attach(model, technique)
        assert found.trained == sum(parameter.numel() for parameter in attached.parameters())
        own = sum(parameter.numel() for parameter in attached.module.parameters())
        assert found.stored == own + (found.trained if technique.tune != "none" else 0)
        assert value(found.formula, dict(found.numbers)) == found.trained


@settings(max_examples=8, deadline=None)
@given(r=st.integers(1, 64), tokens=st.integers(1, 50), bottleneck=st.integers(1, 300))
def test_formulas_hold_for_all_settings(r: int, tokens: int, bottleneck: int) -> None:
    for name, values in (("lora", {"r": r}), ("prefix_mlp", {"tokens": tokens, "bottleneck": bottleneck})):
        for host in ("bert-base", "llama-3.1-8b", "t5-base"):
            found = count(load(name, **values), host)
            assert value(found.formula, dict(found.numbers)) == found.trained


def test_what_a_network_makes_is_all_that_inference_needs() -> None:
    made = count(load("prefix_mlp", tokens=7), "bert-base")
    assert made.inference == count(load("prefix", tokens=7), "bert-base").trained < made.stored


def test_only_what_a_technique_trains_of_the_host_is_counted() -> None:
    norms = read("{name: mine, title: Mine, tune: [final.norm]}")
    assert count(norms, "llama-2-7b").trained == 4096
    assert count("full", "llama-2-7b").trained == count("full", "llama-2-7b").host_parameters
    assert count("head", "llama-2-7b").trained == 0


def test_formulas_say_what_grouped_heads_cost() -> None:
    assert count("lora", "llama-3.1-8b").formula == "n_layers * r * (d_head * n_kv_heads + 3 * d_model)"
    assert count("lora", "bert-base").formula == "4 * d_model * n_layers * r"
