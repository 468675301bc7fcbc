"""A new technique's file explains every field and passes the check as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from peftref.core.frozen_map import FrozenMap
from peftref.core.problem import PeftrefError
from peftref.design.catalog import technique_files
from peftref.design.load import load, read
from peftref.design.new import derive, new, write_new
from peftref.design.register import register
from peftref.design.technique import Insert, Leaf, Technique
from peftref.design.wording import validate
from peftref.design.yaml_source import read_yaml

from .samples import techniques


@pytest.mark.parametrize("base", sorted(technique_files()))
def test_a_copy_of_any_technique_holds_all_but_what_is_true_of_the_technique_alone(base: str) -> None:
    copy, original = read(new("mine", base)), load(base)
    assert copy.name == "mine"
    assert (copy.source, dict(copy.peers), copy.note) == (None, {}, None)
    own = {field: getattr(original, field) for field in ("name", "title", "source", "peers", "note")}
    assert copy.model_copy(update=own) == original


def test_peers_that_name_what_is_gone_are_refused() -> None:
    text = (
        (catalog := technique_files())["lora"].read_text().replace("A: {shape", "Q: {shape").replace("@ A @", "@ Q @")
    )
    with pytest.raises(PeftrefError) as raised:
        read(text, catalog["lora"].name)
    problems = raised.value.problems
    assert {problem.code for problem in problems} == {"unknown-leaf"}
    assert [problem.place.line for problem in problems if problem.place] == [
        number for number, line in enumerate(text.splitlines(), 1) if "{A: lora" in line
    ]
    with pytest.raises(PeftrefError, match="unknown-setting"):
        read((catalog["lora"].read_text()).replace("dropout: lora_dropout", "drop: lora_dropout"))


def test_every_field_is_explained() -> None:
    text = new("mine", "lora")
    assert text.startswith("# yaml-language-server: $schema=")
    for model in (Technique, Insert, Leaf):
        for name, field in model.model_fields.items():
            assert field.description
            assert text.count(field.description) >= 1
            assert f"{name}:" in text


def test_fields_that_are_comments_can_be_used() -> None:
    text = new("mine", "lora")
    for line in ("# layers: {last: 2}", "# tune: [attention.norm, ffn.norm]", "# budget: r", "# stacks: [decoder]"):
        assert line in text
        text = text.replace(line, line.removeprefix("# "))
    changed = read(text)
    assert changed.insert[0].layers.count == 2
    assert changed.tune == ("attention.norm", "ffn.norm")
    assert changed.budget == "r"


@given(techniques())
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_technique_can_be_the_base(base: Technique) -> None:
    found = validate(Technique, read_yaml(derive("mine", base), "mine.yaml"), "a technique")
    own = {"source": None, "peers": FrozenMap(), "note": None}
    expected = base.model_copy(update={"name": "mine", "title": f"mine, from {base.title}", **own})
    assert found == expected


def test_written_checked_registered(tmp_path: Path) -> None:
    path = write_new("mine", "ia3", tmp_path)
    assert path == tmp_path / "mine.yaml"
    before = path.read_bytes()
    with pytest.raises(PeftrefError) as error:
        write_new("mine", "lora", tmp_path)
    assert error.value.problems[0].code == "file-exists"
    assert path.read_bytes() == before
    register(path)
    assert load("mine").insert == load("ia3").insert


@pytest.mark.parametrize(
    ("name", "base", "code"),
    [
        ("lora", "ia3", "technique-exists"),
        ("Mine", "lora", "bad-name"),
        ("../mine", "lora", "bad-name"),
        ("", "lora", "bad-name"),
        ("mine", "lorra", "unknown-technique"),
    ],
)
def test_refusals(name: str, base: str, code: str, tmp_path: Path) -> None:
    with pytest.raises(PeftrefError) as error:
        write_new(name, base, tmp_path)
    assert error.value.problems[0].code == code
    assert not list(tmp_path.glob("*.yaml"))
