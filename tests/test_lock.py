"""What is installed is what the lock says, and the lock holds all that pyproject.toml asks for."""

from __future__ import annotations

import ast
import os
import re
import sys
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PINS = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines()]
OURS = {"pip", "peftref"}
"""What every environment has, and what is tested."""


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_everything_that_is_asked_for_is_in_the_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    asked += project["optional-dependencies"]["peers"]
    pinned = {plain(pin.name): pin for pin in PINS if pin.marker is None or pin.marker.evaluate()}
    for each in map(Requirement, asked):
        if plain(each.name) not in OURS:
            version = next(iter(pinned[plain(each.name)].specifier)).version
            assert each.specifier.contains(version, prereleases=True), f"{each} is locked as {version}: make lock"


def brought(name: str, *, extras: bool = True) -> set[str]:
    """What a distribution asks for, and what that asks for; whatever is installed of it."""
    found: set[str] = set()
    left = [name]
    while left:
        try:
            asked = map(Requirement, metadata.requires(left.pop()) or [])
        except metadata.PackageNotFoundError:
            continue
        new = {
            plain(each.name) for each in asked if extras or each.marker is None or each.marker.evaluate({"extra": ""})
        }
        left += new - found
        found |= new
    return found


def test_what_is_imported_is_asked_for() -> None:
    """Whatever the package imports comes with it, or is a peer that an extra names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [plain(Requirement(each).name) for each in project["dependencies"]]
    there = {*asked, *(name for each in asked for name in brought(each, extras=False))}
    for extra in ("peers", "quantized"):
        there |= {plain(Requirement(each).name) for each in project["optional-dependencies"][extra]}
    made_by = metadata.packages_distributions()
    for path in (ROOT / "peftref").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {each.partition(".")[0] for each in names} - sys.stdlib_module_names - {"peftref"}:
                assert there & {plain(each) for each in made_by.get(name, ())}, f"{path.name} imports {name}"


@pytest.mark.skipif("PEFTREF_UNLOCKED" in os.environ, reason="an environment that is not made from the lock")
def test_everything_that_is_installed_is_in_the_lock() -> None:
    pinned = {plain(pin.name): pin.specifier for pin in PINS if pin.marker is None or pin.marker.evaluate()}
    installed = {
        plain(each.name): each.version
        for each in metadata.distributions(path=[sysconfig.get_path("purelib")])
        if plain(each.name) not in OURS
    }
    cuda = brought("torch")  # the lock knows the CPU build; each other build names its own libraries itself
    assert set(installed) - cuda <= set(pinned), "make lock, and a new environment"
    other = {
        name: version
        for name, version in installed.items()
        if name != "torch" and name in pinned and not pinned[name].contains(version, prereleases=True)
    }
    assert not other


def test_the_lock_names_no_place() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|@ |^-|nvidia|^/", text, flags=re.MULTILINE)
