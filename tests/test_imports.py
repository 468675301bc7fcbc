"""Imports go one way, and the front end knows no torch."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import peftref

ROOT = Path(peftref.__file__).parent
ORDER = (
    "core",
    "host",
    "language",
    "design",
    "analyse",
    "modules",
    "proof",
    "exchange",
    "study",
    "report",
    "cli",
)
INSIDE = {
    "host": ("observe", "locate"),
    "language": ("typeset", "rewrite"),
    "modules": ("state", "running", "procedures", "compile"),
}
"""Rooms inside a room, in the order in which they may import each other."""
FRONT = ("core", "host", "language", "design", "analyse", "report", "cli")
HEAVY = {"torch", "transformers", "numpy", "datasets", "safetensors", "peft"}


def imported(path: Path, *, top: bool) -> set[str]:
    """The modules that a file imports; with top, only those that it imports when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    nodes = ast.walk(tree) if not top else iter(_top(tree.body))
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def _top(body: list[ast.stmt]) -> list[ast.stmt]:
    found: list[ast.stmt] = []
    for node in body:
        checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if isinstance(node, ast.If | ast.Try) and not checking:
            found += _top(node.body)
        found.append(node)
    return found


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def within(name: str, packages: set[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in packages)


@pytest.mark.parametrize("package", ORDER)
def test_imports_go_one_way(package: str) -> None:
    """Imports inside functions too; benchmarks stand outside, and nothing in the package knows them."""
    later = {f"peftref.{name}" for name in ORDER[ORDER.index(package) + 1 :]} | {"benchmarks", "tests"}
    for path in files(package):
        wrong = {name for name in imported(path, top=False) if within(name, later)}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("package", INSIDE)
def test_imports_inside_a_room_go_one_way(package: str) -> None:
    rooms = INSIDE[package]
    for index, room in enumerate(rooms):
        later = {f"peftref.{package}.{name}" for name in rooms[index + 1 :]}
        for path in files(f"{package}/{room}"):
            wrong = {name for name in imported(path, top=False) if within(name, later)}
            assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_every_room_stands_in_the_order() -> None:
    assert {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()} == set(ORDER)


@pytest.mark.parametrize("package", FRONT)
def test_the_front_end_imports_nothing_heavy_at_once(package: str) -> None:
    for path in files(package):
        if package == "host" and path.parent != ROOT / package:
            continue
        wrong = {name for name in imported(path, top=True) if name.partition(".")[0] in HEAVY}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_no_python_knows_a_technique_by_name() -> None:
    """Names of techniques stand in data, and in docstrings as examples."""
    from peftref.design.defaults import defaults
    from peftref.design.load import techniques

    names = {technique.name for technique in techniques()} - {"full", "head", "prompt", "prefix"}
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        said = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and id(node) not in documented and node.value in names
        }
        assert not said, f"{path.relative_to(ROOT)}: {said}"
    assert {*defaults().compare, defaults().new} <= names | {"full", "head", "prompt", "prefix"}
