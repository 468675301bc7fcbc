"""Catalogs have equal rights; a name that exists twice is told, with both files, when it is asked for or listed."""

from __future__ import annotations

import os
import time
from importlib import metadata
from pathlib import Path

import pytest

from peftref.core.data import data_folder
from peftref.core.problem import PeftrefError
from peftref.design import catalog
from peftref.design.catalog import CatalogWarning, catalog_folders, section_files, technique_file, technique_files
from peftref.design.load import load, techniques

from .samples import LORA


def put(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.yaml"
    file.write_text(LORA.replace("name: sample", f"name: {name}"))
    return file


def use(monkeypatch: pytest.MonkeyPatch, *folders: Path | str) -> None:
    monkeypatch.setenv("PEFTREF_CATALOG", os.pathsep.join(str(folder) for folder in folders))


def test_a_file_is_all_that_a_technique_needs(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(technique_files())
    put(tmp_path / "plain", "mine_plain")
    put(tmp_path / "full" / "techniques", "mine_full")
    (tmp_path / "full" / "tasks").mkdir()
    (tmp_path / "full" / "tasks" / "task1.yaml").write_text("name: task1")
    put(home / "peftref" / "catalog" / "techniques", "mine_home")
    use(monkeypatch, tmp_path / "plain", tmp_path / "full")
    mine = {"mine_plain", "mine_full", "mine_home"}
    assert set(technique_files()) == before | mine
    assert {technique.name for technique in techniques()} == before | mine
    assert all(load(name).name == name for name in mine)
    assert section_files("tasks")["task1"] == (tmp_path / "full" / "tasks" / "task1.yaml",)


def test_the_user_catalog_is_in_the_configuration_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr("sys.platform", "linux")
    assert catalog.user_catalog() == tmp_path / ".config" / "peftref" / "catalog"


def test_the_built_in_catalog_has_no_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = put(tmp_path / "a", "lora")
    use(monkeypatch, tmp_path / "a")
    built_in = data_folder("catalog") / "techniques" / "lora.yaml"
    for ask in (lambda: load("lora"), technique_files, techniques):
        with pytest.raises(PeftrefError) as error:
            ask()
        (problem,) = error.value.problems
        assert problem.code == "duplicate-technique"
        assert problem.notes == (f"in {built_in}", f"in {mine}")
    assert load("ia3").name == "ia3"


def test_one_folder_named_twice_is_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a", "mine")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    use(monkeypatch, tmp_path / "a", tmp_path / "link", data_folder("catalog"))
    assert "mine" in technique_files()
    assert len(catalog_folders()) == 2


def test_a_name_and_its_file_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a", "mine").rename(tmp_path / "a" / "other.yaml")
    use(monkeypatch, tmp_path / "a")
    with pytest.raises(PeftrefError) as error:
        load("other")
    assert error.value.problems[0].code == "name-mismatch"
    assert load(tmp_path / "a" / "other.yaml").name == "mine"


def test_what_is_no_technique_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(technique_files())
    folder = tmp_path / "a"
    put(folder, "mine")
    put(folder, ".hidden")
    (folder / "notes.txt").write_text("x")
    (folder / "folder.yaml").mkdir()
    (folder / ".mine.yaml.1234.part").write_text("name: m")
    use(monkeypatch, folder)
    assert set(technique_files()) == before | {"mine"}
    put(folder, "mine").rename(folder / "mine.yml")
    assert technique_file("mine") == folder / "mine.yml"
    put(folder, "mine")
    with pytest.raises(PeftrefError):
        technique_file("mine")


class Entry:
    """An entry point as importlib.metadata gives them."""

    def __init__(self, name: str, value: object) -> None:
        self.name, self.value, self.given = name, f"plug:{name}", value

    def load(self) -> object:
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


def plug(monkeypatch: pytest.MonkeyPatch, *entries: Entry) -> None:
    real = metadata.entry_points
    monkeypatch.setattr(
        metadata, "entry_points", lambda group: entries if group == catalog.GROUP else real(group=group)
    )


def test_entry_points_give_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "plugpackage"
    put(package / "techniques", "from_module")
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    import plugpackage.inner  # type: ignore[import-not-found]  # written just above

    put(tmp_path / "f", "from_function")
    put(tmp_path / "p", "from_path")
    plug(
        monkeypatch,
        Entry("module", plugpackage),
        Entry("function", lambda: str(tmp_path / "f")),
        Entry("path", tmp_path / "p"),
        Entry("again", plugpackage.inner),
    )
    assert {"from_module", "from_function", "from_path"} <= set(technique_files())


def raising() -> Path:
    raise RuntimeError("out of order")


def test_a_broken_catalog_is_a_named_warning_and_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug(
        monkeypatch,
        Entry("absent", ModuleNotFoundError("No module named 'plug'")),
        Entry("raising", raising),
        Entry("number", 3),
        Entry("nowhere", tmp_path / "nowhere"),
    )
    use(monkeypatch, tmp_path / "gone")
    with pytest.warns(CatalogWarning) as caught:
        assert "lora" in technique_files()
    told = [str(warning.message) for warning in caught]
    assert len(told) == 5
    for name in ("gone", "absent", "raising", "number", "nowhere"):
        assert sum(name in text for text in told) == 1


def test_sixty_files_are_listed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        put(tmp_path / "a", f"mine_{number}")
    use(monkeypatch, tmp_path / "a")
    technique_files()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        assert len(technique_files()) >= 60
        times.append(time.perf_counter() - start)
    assert min(times) < 0.06
