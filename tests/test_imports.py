"""Imports go one way, and the front end knows no torch."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import peftref

ROOT = Path(peftref.__file__).parent
ORDER = (
    "host",
    "lang",
    "typeset",
    "observe",
    "locate",
    "design",
    "rewrite",
    "analyse",
    "state",
    "running",
    "proof",
    "procedures",
    "compile",
    "modules",
    "train",
    "exchange",
    "bench",
    "report",
    "atlas",
    "cli",
)
FRONT = ("host", "lang", "typeset", "design", "rewrite", "analyse", "report", "atlas", "cli")
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


@pytest.mark.parametrize("package", ORDER)
def test_imports_go_one_way(package: str) -> None:
    later = {f"peftref.{name}" for name in ORDER[ORDER.index(package) + 1 :]}
    for path in files(package):
        wrong = {
            name
            for name in imported(path, top=True)
            if any(name == each or name.startswith(f"{each}.") for each in later)
        }
        if package == "lang":
            wrong |= {
                name
                for name in imported(path, top=True)
                if name.startswith("peftref.host") and not name.endswith("architecture")
            }
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("package", FRONT)
def test_the_front_end_imports_nothing_heavy_at_once(package: str) -> None:
    for path in files(package):
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
