"""Which techniques cost clearly more than the frozen host, and why, as a table."""

from __future__ import annotations

from collections.abc import Iterable

from peftref.analyse.explain import Explanation
from peftref.report.table import Column, Table, Value

LIMIT = 1.15
"""Of the frozen host's step: above it, a reason is told."""
COLUMNS = (
    Column("technique", "technique", code=True),
    Column("host", "host"),
    Column("measured", "step / frozen host", digits=2),
    Column("counted", "counted", digits=2),
    Column("reason", "why, by count"),
)


def dearer_table(found: Iterable[tuple[str, float, Explanation]]) -> Table:
    """What was measured above the limit; found: the host's name, the measured ratio, and how the technique is computed there."""
    rows: list[dict[str, Value]] = [
        {
            "technique": told.technique,
            "host": host,
            "measured": measured,
            "counted": told.step,
            "reason": "; ".join(f"{each.share:+.2f} {each.reason}" for each in told.shares[:3] if each.share > 0.005),
        }
        for host, measured, told in found
        if measured > LIMIT
    ]
    note = "counted: operations, and numbers written weighed as operations, beside the frozen host's, as `peftref explain` tells"
    return Table(COLUMNS, tuple(rows), f"Above {LIMIT} of the frozen host in a whole model, and why", (note,))
