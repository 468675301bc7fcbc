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
    """The records of `benchmarks.facts` as a table, with what they were computed on in its notes."""
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
        "kept as: what peft saves of it, what a network makes or the factors alone, is another technique here",
        f"versions: {_versions(place)}",
    ]
    notes += [note for host in hosts if (note := _summary(found, host))]
    if measured_at:
        notes.append(f"times: {measured_at['cpu']}, {measured_at['threads']} threads, {_versions(measured_at)}")
    return Table(columns, tuple(rows), "Every technique of the catalog", tuple(notes))


def _summary(found: Sequence[Mapping[str, Any]], host: str) -> str | None:
    """The geometric means and largest ratios to peft at a host; where a technique that costs nothing would stand, in time."""
    both = [each for each in found if each["step"].get(host) and each["frozen"].get(host)]
    if not both:
        return None
    steps, saved = ([each[key][host] for each in both if each[key].get(host)] for key in ("step", "saved"))
    floor = _mean([each["step"][host] / each["frozen"][host] for each in both])
    return (
        f"{host}, {len(both)} techniques: step / peft {_mean(steps):.2f} in the geometric mean, {max(steps):.2f} at most, and "
        f"{floor:.2f} would be the frozen host alone; saved / peft {_mean(saved):.2f}, {max(saved):.2f} at most"
    )


def _mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def _power(value: float | None) -> str | None:
    if value is None:
        return None
    return "0" if value == 0 else f"1e{math.ceil(math.log10(value))}"


def _versions(place: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in place["versions"].items())
