"""Every block of the README runs, its made parts are current, and the examples in docstrings hold."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import shlex
from pathlib import Path

import pytest
import yaml

import benchmarks
import peftref
from benchmarks.reference import updated
from peftref.cli import main
from peftref.design.load import load, read

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
MODULES = [
    module.name
    for package in (peftref, benchmarks)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith(("__main__", "make_presets"))
]


def test_the_made_parts_are_current() -> None:
    assert updated(README) == README


def test_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    commands = [line for kind, text in BLOCKS if kind == "sh" for line in text.strip().splitlines()]
    assert commands[:2] == ["make demo", "make test"]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for command in commands:
        program, *arguments = shlex.split(command)
        if program == "make":
            assert arguments[0] in targets
            continue
        assert program == "peftref"
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert not left.value.code, f"{command}: {capsys.readouterr().err}"


def test_commands_that_need_data_are_well_formed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for kind, text in BLOCKS if kind == "text" for line in text.strip().splitlines()]
    for line in lines:
        program, command, *arguments = shlex.split(line)
        assert program == "peftref"
        with pytest.raises(SystemExit) as left:
            main([command, "--help"])
        options = capsys.readouterr().out
        assert not left.value.code
        assert all(each in options for each in arguments if each.startswith("--")), line


def test_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    for kind, text in BLOCKS:
        if kind == "python":
            exec(compile(text, "README.md", "exec"), space)  # our own text
    assert (tmp_path / "my-module" / "module.safetensors").is_file()


def test_the_first_example_is_the_technique_itself() -> None:
    text = next(text for kind, text in BLOCKS if kind == "yaml")
    shown, own = read(text), load("lora")
    assert shown.insert == own.insert
    assert shown.settings == own.settings
    assert yaml.safe_load(text)["name"] == "lora"


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert found.failed == 0
