"""The committed schemas are the generated ones, accept every shipped YAML, and refuse what the models refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from benchmarks.schema import SCHEMAS, schema, schema_text, write_schemas
from peftref.core.data import data_folder
from peftref.design.catalog import SECTIONS
from peftref.design.technique import Technique
from peftref.host.architecture import ARCHITECTURE

from .samples import LORA, techniques

FOLDERS = {"techniques": "technique", "tasks": "task"}


def validator(name: str) -> jsonschema.Draft202012Validator:
    found = schema(name)
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


@pytest.mark.parametrize("name", [name for name, _ in SCHEMAS])
def test_committed_schemas_are_current(name: str) -> None:
    committed = (data_folder("schemas") / f"{name}.json").read_text(encoding="utf-8")
    assert committed == schema_text(name), "run: python -m benchmarks.schema"
    found = json.loads(committed)
    assert found["$schema"].endswith("2020-12/schema")
    assert found["$id"] == f"urn:peftref:schema:{name}"


def shipped(section: str) -> list[Path]:
    return sorted((data_folder("catalog") / section).glob("*.yaml"))


@pytest.mark.parametrize("section", FOLDERS)
def test_every_shipped_file_has_the_modeline_and_fits_its_schema(section: str) -> None:
    files = shipped(section)
    assert files
    check = validator(FOLDERS[section])
    for file in files:
        text = file.read_text(encoding="utf-8")
        modeline = text.split("\n", 1)[0]
        prefix = "# yaml-language-server: $schema="
        assert modeline.startswith(prefix), file.name
        assert (file.parent / modeline.removeprefix(prefix)).resolve() == (
            data_folder("schemas") / f"{FOLDERS[section]}.json"
        ).resolve()
        check.validate(yaml.safe_load(text))


def test_sections_of_the_catalog_are_known() -> None:
    assert set(FOLDERS) <= set(SECTIONS)


def test_the_architecture_fits_its_schema() -> None:
    validator("architecture").validate(ARCHITECTURE.model_dump(mode="json"))


@given(techniques())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_the_model_accepts_the_schema_accepts(technique: Technique) -> None:
    CHECK.validate(yaml.safe_load(technique.to_yaml()))


CHECK = validator("technique")


@pytest.mark.parametrize(
    "change",
    [
        ("name: sample", "nam: sample"),
        ("name: sample", "name: 3x"),
        ("[attention.query, attention.value]", "[attention.quer]"),
        ("[attention.query, attention.value]", "[]"),
        ("init: zeros", "init: zeross"),
        ("init: zeros", "init: normal"),
        ("init: zeros", "init: {normal: [1]}"),
        ("init: zeros", "init: zeros, scope: sites"),
        ("init: zeros", "init: zeros, frozen: 1"),
        ("[r, d_in]", "r"),
        ("[r, d_in]", "[0]"),
        ("r: 8", "r: [8]"),
    ],
)
def test_schema_and_model_refuse_the_same(change: tuple[str, str]) -> None:
    data: Any = yaml.safe_load(LORA.replace(*change))
    with pytest.raises(jsonschema.ValidationError):
        CHECK.validate(data)
    with pytest.raises(ValueError):
        Technique.model_validate(data) and _slots_known(data)
    CHECK.validate(yaml.safe_load(LORA))


def _slots_known(data: Any) -> None:
    """Slots are names, which the model leaves to the check of a whole technique."""
    from peftref.core.problem import PeftrefError
    from peftref.design.load import read

    try:
        read(yaml.safe_dump(data))
    except PeftrefError as error:
        raise ValueError from error


def test_schemas_are_written_whole(tmp_path: Path) -> None:
    written = write_schemas(tmp_path)
    assert [path.name for path in written] == [f"{name}.json" for name, _ in SCHEMAS]
    assert written[0].read_text(encoding="utf-8") == schema_text("technique")
