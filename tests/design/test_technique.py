"""Techniques as values: immutable, hashable, round trips through YAML, settings changed by name."""

from __future__ import annotations

import copy
import pickle

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from peftref.core.frozen_map import FrozenMap
from peftref.core.problem import PeftrefError
from peftref.design.layers import Layers, parse_layers, plain_layers
from peftref.design.load import read
from peftref.design.technique import Technique
from peftref.design.wording import validate
from peftref.design.yaml_source import read_yaml

from .samples import LORA, techniques


def codes(error: pytest.ExceptionInfo[PeftrefError]) -> list[str]:
    return [problem.code for problem in error.value.problems]


@given(techniques())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_canonical_yaml_reads_back_as_an_equal_technique(technique: Technique) -> None:
    text = technique.to_yaml()
    again = validate(Technique, read_yaml(text, "t.yaml"), "a technique")
    assert again == technique
    assert hash(again) == hash(technique)
    assert again.to_yaml() == text
    assert list(again.settings) == list(technique.settings)
    for name, value in technique.settings.items():
        assert type(again.settings[name]) is type(value)


@given(techniques())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_canonical_yaml_means_the_same_to_a_yaml_1_1_reader(technique: Technique) -> None:
    data = yaml.safe_load(technique.to_yaml())
    assert data["name"] == technique.name
    assert data.get("settings", {}) == dict(technique.settings)
    assert data.get("note") == technique.note


def test_a_sample_is_its_own_canonical_text() -> None:
    assert read(LORA).to_yaml() == LORA


def test_nothing_of_a_technique_changes_and_all_of_it_can_be_copied() -> None:
    technique = read(LORA)
    with pytest.raises(ValidationError):
        technique.name = "other"
    with pytest.raises(TypeError):
        technique.settings["r"] = 4  # type: ignore[index]  # that it cannot be done is the point
    with pytest.raises(AttributeError):
        technique.settings._items = {}  # type: ignore[attr-defined]  # so is this
    assert isinstance(technique.insert[0].leaves, FrozenMap)
    assert pickle.loads(pickle.dumps(technique)) == copy.deepcopy(technique) == technique
    assert {technique: 1}[read(LORA)] == 1
    assert technique.with_settings(r=4) != technique


def test_settings_keep_their_types() -> None:
    technique = Technique.model_validate(
        {
            "name": "t",
            "title": "T",
            "settings": {"r": 8, "scale": 1.5, "alpha": 16, "mode": "fast", "flag": True},
            "insert": [
                {"at": "ffn", "leaves": {"A": {"shape": ["2 * r"], "init": "zeros"}}, "equation": "h' = h"},
            ],
        }
    )
    changed = technique.with_settings(r=4, scale=2, alpha=0.5, mode="slow", flag=False)
    assert dict(changed.settings) == {"r": 4, "scale": 2.0, "alpha": 0.5, "mode": "slow", "flag": False}
    assert [type(value) for value in changed.settings.values()] == [int, float, float, str, bool]
    assert dict(technique.settings)["r"] == 8
    assert changed.insert == technique.insert
    with pytest.raises(PeftrefError) as error:
        technique.with_settings(r=4.0, scale="x", alpha=True, mode=3, flag=1, rr=3)
    assert codes(error) == ["setting-size", *["setting-type"] * 4, "unknown-setting"]
    for value in (0, -1, True, 2.5, "8"):
        with pytest.raises(PeftrefError):
            technique.with_settings(r=value)
    with pytest.raises(PeftrefError):
        technique.with_settings(scale=float("nan"))


def test_sizes_are_the_settings_in_shapes_and_layer_counts() -> None:
    technique = read(LORA)
    assert technique.size_settings() == ("r",)
    assert technique.budget_setting() == "r"
    layered = LORA.replace("settings: {", "settings: {n: 2, ").replace(
        "    leaves:", "    layers: {last: n}\n    leaves:"
    )
    assert read(layered).size_settings() == ("r", "n")
    with pytest.raises(PeftrefError) as error:
        read(layered.replace("n: 2", "n: 0"))
    assert codes(error) == ["setting-size"]


@pytest.mark.parametrize(
    ("value", "chosen"),
    [
        ("all", (0, 1, 2, 3, 4)),
        ([0, -1], (0, 4)),
        ([-1, 4, 0], (0, 4)),
        ({"first": 2}, (0, 1)),
        ({"last": "n"}, (2, 3, 4)),
        ({"every": 2}, (0, 2, 4)),
        ({"every": 9}, (0,)),
        ({"first": 5}, (0, 1, 2, 3, 4)),
        ({"span": [0, 1, 2]}, (0, 1)),
        ({"span": [1, 2, 2]}, (2, 3, 4)),
        ({"span": [0, 1, 9]}, ()),
    ],
)
def test_layer_choices(value: object, chosen: tuple[int, ...]) -> None:
    layers = parse_layers(value)
    assert layers.choose(5, {"n": 3}) == chosen
    assert parse_layers(plain_layers(layers)) == layers


@pytest.mark.parametrize("value", [[1, 1, 4], [0, 5, 4], [0, 1], [0, 1, 4, 2], "first", [0.5, 1, 2], [-1, 1, 2]])
def test_a_span_has_a_beginning_and_an_end(value: object) -> None:
    with pytest.raises(PydanticCustomError, match="span takes three whole numbers"):
        parse_layers({"span": value})


@pytest.mark.parametrize("layers", [Layers("list", (5,)), Layers("list", (-6, 0)), Layers("first", count=6)])
def test_a_layer_that_is_not_there_is_an_error(layers: Layers) -> None:
    with pytest.raises(PeftrefError) as error:
        layers.choose(5, {})
    assert codes(error) == ["layer-absent"]


@pytest.mark.parametrize("count", [0, -1, 2.0, True, "x", None])
def test_a_number_of_layers_is_a_positive_whole_number(count: object) -> None:
    with pytest.raises(PeftrefError) as error:
        Layers("every", count="n").choose(5, {"n": count})
    assert codes(error) == ["setting-size"]
