"""The facts of the whole catalog as one table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from peftref.report.table import Column, Table, Value

FIXED = (
    Column("name", "technique", code=True),
    Column("lines", "lines"),
    Column("trained", "trained parameters", code=True),
    Column("identity", "identity at the start"),
    Column("mergeable", "merges"),
    Column("peft", "type in peft"),
    Column("output", "output"),
    Column("gradient", "gradient"),
    Column("merged", "merged"),
    Column("exchange", "exchange"),
)
RATIOS = (("step", "step / peft"), ("saved", "saved / peft"), ("frozen", "step / frozen host"))


def facts_table(
    found: Sequence[Mapping[str, Any]], place: Mapping[str, Any], measured_at: Mapping[str, Any] | None
) -> Table:
    """The records of `peftref.bench.facts` as a table, with what they were computed on in its notes."""
    hosts = list(dict.fromkeys(host for record in found for host in record["step"]))
    ratios = [(key, host, f"{label}, {host}") for host in hosts for key, label in RATIOS]
    columns = (*FIXED, *(Column(label, label, digits=2) for _, _, label in ratios))
    rows = []
    for record in found:
        row: dict[str, Value] = {column.key: record[column.key] for column in FIXED}
        row |= {key: _power(record[key]) for key in ("output", "gradient", "merged")}
        rows.append(row | {label: record[key].get(host) for key, host, label in ratios})
    peers = [record for record in found if record["output"] is not None]
    notes = [
        f"{len(found)} techniques, {sum(record['lines'] for record in found)} lines of YAML; {len(peers)} held against peft",
        "output, gradient, merged: largest difference from peft as a share of the largest number, in double precision, on a BERT of"
        " two layers of 256 and one sample, or on a Llama where peft has it on no BERT, as a power of ten; peft itself computes some"
        " of them in single precision",
        "kept as: what peft saves of it is what its network makes, which is another technique here",
        f"versions: {_versions(place)}",
    ]
    for key, label in RATIOS[:2]:
        values = [value for record in found for value in record[key].values() if value]
        if values:
            mean = math.exp(sum(map(math.log, values)) / len(values))
            notes.append(
                f"{label}: geometric mean {mean:.3f}, largest {max(values):.3f}, over {len(values)} measurements"
            )
    if measured_at:
        notes.append(f"times: {measured_at['cpu']}, {measured_at['threads']} threads, {_versions(measured_at)}")
    return Table(columns, tuple(rows), "Every technique of the catalog", tuple(notes))


def _power(value: float | None) -> str | None:
    if value is None:
        return None
    return "0" if value == 0 else f"1e{math.ceil(math.log10(value))}"


def _versions(place: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in place["versions"].items())
