"""The parts of the README that are made from tables: the ops of the language, the slots, the inits. Run to bring them up to date."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from peftref.core.problem import fail
from peftref.design.inits import INITS
from peftref.design.procedures import PROCEDURES
from peftref.host.architecture import ARCHITECTURE, SIZES
from peftref.language.ops import OPS
from peftref.report.forms import to_markdown
from peftref.report.table import Column, Table, Value


def ops_table() -> str:
    """One row per op of the language, as Markdown."""
    columns = (
        Column("op", "op", code=True),
        Column("example", "example", code=True),
        Column("about", "what it is"),
        Column("linear", "linear in"),
    )
    rows = []
    for op in OPS:
        operands = sorted(i for i in op.linear if i < op.arity[1])
        everywhere = len(operands) == op.arity[1] > 1 or len(op.linear) > 3
        linear = (
            "each operand"
            if everywhere
            else ", ".join("operand" if op.arity[1] == 1 else f"operand {i + 1}" for i in operands)
        )
        rows.append(
            {
                "op": op.symbol or op.name,
                "example": op.example,
                "about": op.about,
                "linear": linear,
            }
        )
    return to_markdown(Table(columns, tuple(rows)))


def slots_table() -> str:
    """One row per slot of the reference architecture, as Markdown."""
    columns = (Column("slot", "slot", code=True), Column("kind", "kind"), Column("about", "what it is"))
    return to_markdown(
        Table(columns, tuple({"slot": s.name, "kind": s.kind, "about": s.about} for s in ARCHITECTURE.slots))
    )


def kinds_table() -> str:
    """One row per quantity that a kind of slot offers, as Markdown."""
    columns = (
        Column("kind", "kind of slot"),
        Column("quantity", "quantity", code=True),
        Column("shape", "shape", code=True),
        Column("about", "what it is"),
        Column("set", "may be set"),
    )
    rows: list[dict[str, Value]] = [
        {
            "kind": kind.name,
            "quantity": each.name,
            "shape": f"({', '.join(each.shape)}){' per token' if each.per == 'token' else ''}",
            "about": each.about,
            "set": each.replaceable,
        }
        for kind in ARCHITECTURE.kinds
        for each in kind.quantities
    ]
    return to_markdown(Table(columns, tuple(rows)))


def sizes_table() -> str:
    """One row per size symbol, as Markdown."""
    columns = (Column("size", "size", code=True), Column("about", "what it is"))
    return to_markdown(Table(columns, tuple({"size": name, "about": about} for name, about in SIZES.items())))


def inits_table() -> str:
    """One row per init, as Markdown."""
    columns = (Column("init", "init", code=True), Column("parameters", "parameters"), Column("about", "what it is"))
    rows = []
    for row in INITS.values():
        parameters = ", ".join(
            p.name
            if p.default is None
            else f"{p.name} = {p.default:.4g}"
            if isinstance(p.default, float)
            else f"{p.name} = {p.default}"
            for p in row.parameters
        )
        rows.append({"init": row.name, "parameters": parameters, "about": row.about})
    return to_markdown(Table(columns, tuple(rows)))


def procedures_table() -> str:
    """One row per procedure, as Markdown."""
    columns = (
        Column("procedure", "procedure", code=True),
        Column("moments", "runs at"),
        Column("settings", "is told"),
        Column("about", "what it does"),
    )
    rows: list[dict[str, Value]] = [
        {
            "procedure": hook.name,
            "moments": ", ".join(hook.moments) + (", with batches" if hook.data else ""),
            "settings": ", ".join(
                each.name if each.default is None else f"{each.name} = {each.default}" for each in hook.settings
            ),
            "about": hook.about,
        }
        for hook in PROCEDURES.values()
    ]
    return to_markdown(Table(columns, tuple(rows)))


PARTS: Mapping[str, Callable[[], str]] = {
    "ops": ops_table,
    "slots": slots_table,
    "kinds": kinds_table,
    "sizes": sizes_table,
    "inits": inits_table,
    "procedures": procedures_table,
}


def updated(text: str) -> str:
    """A document with the text between `<!-- made: NAME -->` and `<!-- end -->` made anew. Raises PeftrefError `unknown-part`."""

    def replace(found: re.Match[str]) -> str:
        name = found.group(1)
        if name not in PARTS:
            raise fail("unknown-part", f"there is no part {name}", hint=f"parts: {', '.join(PARTS)}")
        return f"<!-- made: {name} -->\n{PARTS[name]()}<!-- end -->"

    return re.sub(r"<!-- made: (\w+) -->\n.*?<!-- end -->", replace, text, flags=re.DOTALL)


if __name__ == "__main__":
    for name in sys.argv[1:] or ["README.md"]:
        path = Path(name)
        path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")
