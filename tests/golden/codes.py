"""The codes of every problem that the package and its benchmarks can report, read from their source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import peftref

SOURCE = Path(peftref.__file__).parents[1]

_MAKERS = {"Problem": 0, "PydanticCustomError": 0}


def trees() -> Iterator[tuple[Path, ast.Module]]:
    """Every module, parsed."""
    for path in sorted([*SOURCE.glob("peftref/**/*.py"), *SOURCE.glob("benchmarks/**/*.py")]):
        yield path.relative_to(SOURCE), ast.parse(path.read_text(encoding="utf-8"))


def forwarders() -> dict[str, int]:
    """Functions that take a problem's code, and which argument it is: those with a parameter named `code`."""
    found = dict(_MAKERS)
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                names = [argument.arg for argument in node.args.args if argument.arg not in ("self", "cls")]
                if "code" in names:
                    found[node.name] = names.index("code")
    return found


def codes() -> dict[str, str]:
    """Every code that is written in the source as the code of a problem, and where."""
    takes = forwarders()
    found: dict[str, str] = {}
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", None))
                if name in takes:
                    for value in _given(node, takes[name]):
                        found.setdefault(value, f"{path}:{node.lineno}")
    return found


def _given(call: ast.Call, position: int) -> Iterator[str]:
    """The texts that a call may give as its code: a constant, or either side of a condition."""
    named = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
    for value in [*call.args[position : position + 1], *named]:
        for part in (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.value
