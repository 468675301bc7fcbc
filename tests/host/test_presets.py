"""Presets say what observing their class says, and count without torch."""

from __future__ import annotations

import pytest

from benchmarks.make_presets import observed
from peftref.core.data import data_folder
from peftref.host.fold import fold, unfold
from peftref.host.presets import load_preset, preset_names, read_preset

QUICK = ("bert-base", "gpt2", "t5-base", "llama-3.2-1b", "qwen3-8b", "vit-base", "phi-3-mini", "bart-base")
KNOWN = {
    "bert-base": 109_482_240,
    "roberta-large": 355_359_744,
    "gpt2": 124_439_808,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "flan-t5-base": 247_577_856 - 32_128 * 768,
    "llama-2-7b": 6_738_415_616,
    "llama-3.1-8b": 8_030_261_248,
    "qwen3-8b": 8_190_735_360,
    "vit-base": 86_389_248,
}
"""What the hub's pages and papers give for the whole checkpoints: a backbone, and a head where it is one's own."""


@pytest.mark.parametrize("name", QUICK)
def test_a_preset_is_what_observing_its_class_gives(name: str) -> None:
    assert load_preset(name) == unfold(observed(read_preset(name), name), name, load_preset(name).model_type)


@pytest.mark.parametrize("name", preset_names())
def test_folding_loses_nothing(name: str) -> None:
    host = load_preset(name)
    assert unfold(fold(host), host.name, host.model_type) == host


@pytest.mark.parametrize("name", KNOWN)
def test_parameters_are_those_of_the_checkpoints(name: str) -> None:
    host = load_preset(name)
    assert KNOWN[name] in (host.parameters, host.parameters + host.head_parameters)


def test_every_file_is_a_preset() -> None:
    assert {path.stem for path in (data_folder("catalog") / "presets").glob("*.yaml")} == set(preset_names())
