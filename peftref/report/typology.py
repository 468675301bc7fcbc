"""The typology and the counts as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from peftref.analyse.row import PEFT_REF, Row
from peftref.report.table import Column, Table, Value

if TYPE_CHECKING:
    from peftref.analyse.count import Counts

LABELS = {
    "intra": "intra-connectivity",
    "inter": "inter-connectivity",
    "adapted": "parameters adapted",
    "sharing": "sharing / tying",
    "input": "input type",
    "form": "insertion form",
    "insertions": "number of insertions",
    "integration": "integration form",
}


def typology_table(rows: Sequence[Row], *, all_columns: bool = False) -> Table:
    """One row per technique; the nine properties of PEFT-Ref, and with all_columns what users ask for beside them."""
    names = tuple(rows[0].cells) if all_columns and rows else PEFT_REF
    columns = (Column("technique", "technique"), *(Column(name, LABELS.get(name, name)) for name in names))
    found = [{"technique": row.title, **{name: row[name] for name in names}} for row in rows]
    return Table(columns, tuple(found), "Typology")


def reasons_table(row: Row) -> Table:
    """One technique: a row per property, with its value and what it was read off from."""
    columns = (Column("property", "property"), Column("value", "value"), Column("reason", "reason"))
    found = [
        {"property": LABELS.get(name, name), "value": cell.value, "reason": cell.reason}
        for name, cell in row.cells.items()
    ]
    return Table(columns, tuple(found))


def counts_table(counts: Sequence[Counts]) -> Table:
    """One row per technique: what it trains, stores and needs, and the formula."""
    columns = (
        Column("technique", "technique"),
        Column("trained", "trained"),
        Column("share", "share", "%", 3),
        Column("stored", "stored"),
        Column("inference", "at inference"),
        Column("formula", "formula of trained"),
    )
    found: list[dict[str, Value]] = [
        {
            "technique": each.technique,
            "trained": each.trained,
            "share": 100 * each.share,
            "stored": each.stored,
            "inference": each.inference,
            "formula": each.formula,
        }
        for each in counts
    ]
    host = counts[0]
    numbers = {name: value for each in counts for name, value in each.numbers if name != "host"}
    notes = [
        f"{host.host}: {host.host_parameters:,} parameters without a head"
        + (f", and a head of {host.head:,}" if host.head else "")
    ]
    if numbers:
        notes.append(", ".join(f"{name} = {value:,}" for name, value in sorted(numbers.items())))
    notes += [f"{each.technique}: {note}" for each in counts for note in each.notes]
    return Table(columns, tuple(found), f"Parameters on {host.host}", tuple(notes))


def counts_json(counts: Counts) -> dict[str, object]:
    """Counts for a program."""
    return {
        "technique": counts.technique,
        "host": counts.host,
        "trained": counts.trained,
        "stored": counts.stored,
        "inference": counts.inference,
        "share": counts.share,
        "formula": counts.formula,
        "numbers": dict(counts.numbers),
        "host_parameters": counts.host_parameters,
        "head": counts.head,
        "notes": list(counts.notes),
    }
