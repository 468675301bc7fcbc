"""A registered technique is there whole or not at all, and never takes the place of another by accident."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from peftref.core.problem import PeftrefError
from peftref.design import write
from peftref.design.catalog import technique_file, user_catalog
from peftref.design.load import load
from peftref.design.register import register
from peftref.design.write import write_whole

from .samples import LORA


def code(error: pytest.ExceptionInfo[PeftrefError]) -> str:
    (problem,) = error.value.problems
    return problem.code


def files() -> list[str]:
    folder = user_catalog() / "techniques"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A technique's file outside every catalog, with a comment of its own."""
    file = tmp_path / "work.yaml"
    file.write_text(LORA + "# a comment that must be kept\n")
    return file


def test_a_registered_technique_is_found_by_name(sample: Path) -> None:
    target = register(sample)
    assert target == user_catalog() / "techniques" / "sample.yaml"
    assert target.read_bytes() == sample.read_bytes()
    assert technique_file("sample") == target
    assert load("sample") == load(sample)
    assert files() == ["sample.yaml"]


def test_a_name_is_never_taken_over_without_force(sample: Path) -> None:
    target = register(sample)
    before = target.read_bytes()
    sample.write_text(LORA.replace("r: 8", "r: 4"))
    with pytest.raises(PeftrefError) as error:
        register(sample)
    assert code(error) == "technique-exists"
    assert target.read_bytes() == before
    assert load(register(sample, force=True)).settings["r"] == 4
    assert register(target, force=True) == target
    assert files() == ["sample.yaml"]


@pytest.mark.parametrize("force", [False, True])
def test_a_name_of_another_catalog_is_refused_even_with_force(sample: Path, force: bool) -> None:
    sample.write_text(LORA.replace("name: sample", "name: lora"))
    with pytest.raises(PeftrefError) as error:
        register(sample, force=force)
    assert code(error) == "technique-exists"
    assert files() == []


def test_what_does_not_pass_the_check_is_not_registered(sample: Path) -> None:
    sample.write_text(LORA.replace("B @ A", "B @ C"))
    with pytest.raises(PeftrefError):
        register(sample)
    assert files() == []


@pytest.mark.parametrize(
    ("place", "force"),
    [("write", False), ("write", True), ("fsync", False), ("fsync", True), ("link", False), ("replace", True)],
)
def test_a_full_disk_leaves_what_was_there(
    sample: Path, place: str, force: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if force:
        register(sample)
        sample.write_text(LORA.replace("r: 8", "r: 4"))
    before = files()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if place == "write":
        monkeypatch.setattr(write, "_write", _half_written)
    else:
        monkeypatch.setattr(os, place, full)
        if place == "link":
            monkeypatch.setattr(os, "replace", full)
    with pytest.raises(PeftrefError) as error:
        register(sample, force=force)
    assert code(error) == "cannot-write"
    assert "No space left" in str(error.value)
    assert files() == before
    if force:
        assert load("sample").settings["r"] == 8


def _half_written(part: Path, content: bytes) -> None:
    part.write_bytes(content[: len(content) // 2])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("moment", ["fsync", "link", "replace"])
def test_a_kill_leaves_the_old_file_and_the_next_try_succeeds(sample: Path, moment: str) -> None:
    first = register(sample)
    before = first.read_bytes()
    sample.write_text(LORA.replace("r: 8", "r: 4"))
    program = (
        "import os, sys; from pathlib import Path; from peftref.design.write import write_whole\n"
        f"os.{moment} = lambda *_: os._exit(9)\n"
        "write_whole(Path(sys.argv[1]), Path(sys.argv[2]).read_bytes(), replace=True)"
    )
    if moment == "link":
        program = program.replace("replace=True", "replace=False")
        first.unlink()
    done = subprocess.run([sys.executable, "-c", program, str(first), str(sample)], check=False, capture_output=True)
    assert done.returncode == 9
    assert first.exists() == (moment != "link")
    assert not first.exists() or first.read_bytes() == before
    assert any(name.endswith(".part") for name in files())
    assert load(register(sample, force=True)).settings["r"] == 4


def test_a_folder_that_cannot_be_made_is_told(sample: Path, home: Path) -> None:
    home.write_text("a file where the folder should be")
    with pytest.raises(PeftrefError) as error:
        register(sample)
    assert code(error) == "cannot-write"


def test_two_writers_of_one_name_cannot_both_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.yaml"
    real = write._write

    def late(part: Path, content: bytes) -> None:
        real(part, content)
        target.write_bytes(b"the other one")

    monkeypatch.setattr(write, "_write", late)
    with pytest.raises(PeftrefError) as error:
        write_whole(target, b"mine")
    assert code(error) == "file-exists"
    assert target.read_bytes() == b"the other one"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.yaml"]


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    target = tmp_path / "a.yaml"
    assert write_whole(target, b"one").read_bytes() == b"one"
    with pytest.raises(PeftrefError) as error:
        write_whole(target, b"two")
    assert code(error) == "file-exists"
    assert target.read_bytes() == b"one"
