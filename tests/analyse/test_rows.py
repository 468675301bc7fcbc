"""The rows of the catalog are the same from the memory, and no damage to it, nor a changed file, goes unseen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peftref.analyse import rows as module
from peftref.analyse.row import PEFT_REF
from peftref.analyse.rows import catalog_rows
from peftref.analyse.typology import PROPERTIES, typology
from peftref.core.problem import PeftrefError
from peftref.design.load import techniques

MINE = "{name: mine, title: Mine, insert: [{at: ffn, equation: h' = 2 * h}]}"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PEFTREF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PEFTREF_CATALOG", str(tmp_path / "catalog"))
    (tmp_path / "catalog").mkdir()
    return tmp_path / "cache" / "typology.json"


def test_rows_are_those_of_the_typology_before_and_after(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = typology(techniques())
    assert catalog_rows() == expected
    assert cache.is_file()
    monkeypatch.setattr(module, "_computed", lambda *_: pytest.fail("computed again"))
    assert catalog_rows() == expected
    assert tuple(expected[0].cells) == tuple(PROPERTIES)
    assert tuple(PROPERTIES)[:9] == PEFT_REF


def test_a_changed_file_has_a_new_row_and_a_broken_one_is_told(cache: Path, tmp_path: Path) -> None:
    file = tmp_path / "catalog" / "mine.yaml"
    for factor, integration in ((MINE, "rescaling"), (MINE.replace("2 * h", "h + 2"), "direct addition")):
        file.write_text(factor)
        assert {row.name: row for row in catalog_rows()}["mine"]["integration"] == integration
    file.write_text(MINE.replace("2 * h", "2 * j"))
    with pytest.raises(PeftrefError, match="unknown-name"):
        catalog_rows()
    file.rename(file.with_name("other.yaml"))
    with pytest.raises(PeftrefError, match=r"other\.yaml"):
        catalog_rows()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"a": {}}', '{"a": 1}', '{"a": {"cells": {"intra": 2}}}', "\0"])
def test_a_damaged_memory_is_none(cache: Path, damage: str) -> None:
    expected = catalog_rows()
    cache.write_text(damage)
    assert catalog_rows() == expected
    assert len(json.loads(cache.read_text())) == len(expected)


def test_a_change_of_the_package_forgets(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog_rows()
    asked = []
    computed = module._computed
    monkeypatch.setattr(module, "_computed", lambda *given: asked.append(given) or computed(*given))
    monkeypatch.setattr(module, "_version", lambda: "another")
    catalog_rows()
    assert asked


def test_where_no_cache_can_be_written_rows_are_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PEFTREF_CACHE", str(tmp_path / "file" / "cache"))
    assert {row.name for row in catalog_rows()} == {each.name for each in techniques()}
