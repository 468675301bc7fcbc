"""A new technique to start from: the commented YAML of an existing one, every field explained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from peftref.core.data import data_folder
from peftref.core.frozen_map import FrozenMap
from peftref.core.problem import fail
from peftref.design.canonical import equation_lines, flow, modeline, top
from peftref.design.catalog import section_files
from peftref.design.defaults import defaults
from peftref.design.fields import NAME
from peftref.design.load import load
from peftref.design.technique import Insert, Leaf, Technique
from peftref.design.write import write_whole

_SHOWN: dict[str, str] = {
    "about": "what it does, in one line",
    "source": '{arxiv: "2106.09685", year: 2021}',
    "settings": "{r: 8, alpha: 16}",
    "carries": "{s: [r]}",
    "insert": "[]",
    "tune": "[attention.norm, ffn.norm]",
    "budget": "r",
    "mutates": "host",
    "procedures": "[{name: NAME, settings: {}}]",
    "peers": "{peft: {type: LORA, keys: {A: lora_A.weight}}}",
    "note": "anything else",
    "layers": "{last: 2}",
    "stacks": "[decoder]",
    "optional": "true",
    "counted": "true",
    "stays": "true",
    "leaves": "{A: {shape: [r, d_in], init: zeros}}",
}
"""What a field that is left out could look like; written as a comment."""


_ITS_OWN: dict[str, Any] = {"source": None, "peers": FrozenMap(), "note": None}
"""What is true of a technique alone and not of one that begins as its copy."""


def new(name: str, base: str | None = None) -> str:
    """The commented YAML of a new technique that begins as a copy of another, of the default where none is named; it passes the check as it is.

    Raises PeftrefError `bad-name`, `technique-exists` where the name is taken, `unknown-technique` for the base.
    """
    if not NAME.fullmatch(name):
        hint = "a name begins with a small letter, then small letters, digits and _"
        raise fail("bad-name", f"{name!r} is no name of a technique", hint=hint)
    taken = section_files("techniques").get(name)
    if taken:
        raise fail("technique-exists", f"there is a technique {name} in {taken[0]}", hint="choose another name")
    return derive(name, load(base or defaults().new))


def write_new(name: str, base: str | None = None, folder: Path | None = None) -> Path:
    """Writes `NAME.yaml` into a folder, the current one where none is given. Raises `file-exists`, never overwrites."""
    return write_whole((folder or Path()) / f"{name}.yaml", new(name, base).encode())


def derive(name: str, base: Technique) -> str:
    """The commented YAML of a copy of a technique under another name."""
    start = base.model_copy(update={"name": name, "title": f"{name}, from {base.title}", **_ITS_OWN})
    data = start.plain()
    lines = [
        modeline((data_folder("schemas") / "technique.json").as_posix()),
        f"# {name}: begins as a copy of {base.name}. Change it, then: peftref check {name}.yaml",
        "# A line that begins with # is a comment; take the # away to use the field in it.",
    ]
    for field in Technique.model_fields:
        lines += ["", *_explained(Technique, field)]
        if field == "insert" and start.insert:
            lines.append("insert:")
            for number, insert in enumerate(start.insert):
                lines += _insert(insert, explain=number == 0)
        else:
            lines.append(f"{field}: {top(data[field])}" if field in data else f"# {field}: {_SHOWN[field]}")
    return "\n".join(lines) + "\n"


def _insert(insert: Insert, *, explain: bool) -> list[str]:
    data = insert.model_dump(exclude_defaults=True)
    lines: list[str] = []
    for field in Insert.model_fields:
        if explain:
            lines += _explained(Insert, field)
        if field == "leaves" and insert.leaves:
            lines += ["leaves:", *_leaves(data["leaves"], explain)]
        elif field == "equation":
            lines += equation_lines(insert.equation)
        elif field in data:
            lines.append(f"{field}: {flow(data[field])}")
        elif explain:
            lines.append(f"# {field}: {_SHOWN[field]}")
    if explain:
        return ["  -", *(f"    {line}" if line else "" for line in lines)]
    return [("  - " if number == 0 else "    ") + line if line else "" for number, line in enumerate(lines)]


def _leaves(leaves: dict[str, Any], explain: bool) -> list[str]:
    lines = [f"  #   {field}: {_about(Leaf, field)}" for field in Leaf.model_fields] if explain else []
    return [*lines, *(f"  {name}: {flow(leaf)}" for name, leaf in leaves.items())]


def _explained(model: type[BaseModel], field: str) -> list[str]:
    return [f"# {_about(model, field)}"]


def _about(model: type[BaseModel], field: str) -> str:
    return str(model.model_fields[field].description)
