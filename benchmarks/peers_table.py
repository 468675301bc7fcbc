"""What was measured side by side, with peft or with the host alone, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peftref.report.table import Column, Table, Value

COLUMNS = (
    Column("host", "host"),
    Column("technique", "technique"),
    Column("seconds", "step", "ms", 1),
    Column("seconds_peft", "peft", "ms", 1),
    Column("ratio_to_peft", "step / peft", digits=3),
    Column("ratio_to_frozen_host", "step / frozen host", digits=3),
    Column("saved", "saved", "MB", 2),
    Column("saved_ratio", "saved / peft", digits=3),
    Column("problem", "problem of peft"),
)

DISABLED = (
    Column("host", "host"),
    Column("technique", "technique"),
    Column("alone", "host alone", "ms", 2),
    Column("attached", "with it, disabled", "ms", 2),
    Column("ratio", "ratio", digits=3),
    Column("rounds", "rounds"),
)


def peers_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """The records of `benchmarks.peers` as a table."""
    rows: list[dict[str, Value]] = []
    for record in records:
        row: dict[str, Value] = {column.key: record[column.key] for column in COLUMNS}
        row |= {key: None if record[key] is None else record[key] * 1e3 for key in ("seconds", "seconds_peft")}
        rows.append(row | {"saved": record["saved"] * 1e-6})
    return Table(COLUMNS, tuple(rows))


def disabled_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """The records of `benchmarks.disabled` as a table."""
    rows = [{**record, **{key: record[key] * 1e3 for key in ("alone", "attached")}} for record in records]
    return Table(DISABLED, tuple(rows))
