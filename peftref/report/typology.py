"""The typology as a table."""

from __future__ import annotations

from collections.abc import Sequence

from peftref.analyse.row import PEFT_REF, Row
from peftref.report.table import Column, Table

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
