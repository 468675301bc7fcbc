"""A technique as canonical YAML: one order, one way to write each part, defaults left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peftref.design.yaml_scalars import write

_INDENT = "    "


def modeline(schema: str) -> str:
    """The comment that tells editors which schema a YAML file has.

    >>> modeline("../../schemas/technique.json")
    '# yaml-language-server: $schema=../../schemas/technique.json'
    """
    return f"# yaml-language-server: $schema={schema}"


def canonical_yaml(data: Mapping[str, Any], schema: str) -> str:
    """The canonical text of a technique as plain data, modeline included."""
    lines = [modeline(schema)]
    for name, value in data.items():
        if name != "insert":
            lines.append(f"{name}: {top(value)}")
            continue
        lines.append("insert:")
        for insert in value:
            lines += _insert(insert)
    return "\n".join(lines) + "\n"


def _insert(data: Mapping[str, Any]) -> list[str]:
    """An insertion as the lines of a list item."""
    lines = [f"{name}: {flow(value)}" for name, value in data.items() if name not in ("leaves", "equation")]
    if data.get("leaves"):
        lines.append("leaves:")
        lines += [f"  {write(name)}: {flow(leaf)}" for name, leaf in data["leaves"].items()]
    lines += equation_lines(data["equation"])
    return [("  - " if number == 0 else _INDENT) + line if line else "" for number, line in enumerate(lines)]


def equation_lines(equation: str) -> list[str]:
    """The field `equation`, on its own line where it is one statement, else as a block."""
    if "\n" not in equation or not is_block_text(equation):
        return [f"equation: {write(equation, flow=False)}"]
    return ["equation: |", *(f"  {line}" if line else "" for line in equation.split("\n"))]


def is_block_text(text: str) -> bool:
    """Whether a text can stand as a `|` block and read back as it is, but for its last end of line."""
    lines = text.split("\n")
    told = all(character.isprintable() for line in lines for character in line)
    return told and bool(lines[0]) and not lines[0].startswith(" ")


def top(value: Any) -> str:
    """The value of a field of the technique itself."""
    return write(value, flow=False) if isinstance(value, str) else flow(value)


def flow(value: Any) -> str:
    """Plain data on one line.

    >>> flow({"shape": ["r", 4], "init": {"normal": 0.02}})
    '{shape: [r, 4], init: {normal: 0.02}}'
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{write(str(name))}: {flow(item)}" for name, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return write(value)
