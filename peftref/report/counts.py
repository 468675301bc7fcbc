"""The counts of techniques on hosts as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from peftref.report.table import Column, Table, Value

if TYPE_CHECKING:
    from peftref.analyse.count import Counts


def counts_table(labels: Sequence[str], counts: Sequence[Sequence[Counts]], left: Sequence[str] = ()) -> Table:
    """One row per technique: what it trains on each host, and its formula; on a single host also what it stores and needs.

    labels: what the techniques are called. counts: for each of them its counts on every host. left: what was asked for and not
    taken up, in sentences.
    """
    hosts = list(counts[0]) if counts else []
    several = len(hosts) > 1
    columns = [Column("technique", "technique")]
    for i, host in enumerate(hosts):
        where = f" on {host.host}" if several else ""
        columns += [Column(f"trained{i}", f"trained{where}"), Column(f"share{i}", "share", "%", 3)]
        if host.head:
            columns.append(Column(f"with_head{i}", "share with the head", "%", 3))
    if not several:
        columns += [Column("stored", "stored"), Column("inference", "at inference")]
    columns += [Column("formula", "formula of trained"), Column("sizes", "sizes in it")]
    rows = tuple(_row(label, row) for label, row in zip(labels, counts, strict=True))
    notes = [_host_note(host) for host in hosts]
    notes += [
        f"{label}{f' on {each.host}' if several else ''}: {note}"
        for label, row in zip(labels, counts, strict=True)
        for each in row
        for note in each.notes
    ]
    title = f"Parameters on {', '.join(host.host for host in hosts)}"
    return Table(tuple(columns), rows, title, (*notes, *left))


def _host_note(host: Counts) -> str:
    said = f"{host.host}: {host.host_parameters:,} parameters without a head"
    if not host.head:
        return said
    return f"{said}, and a head of {host.head:,}; the share with it counts it as trained and as the host's"


def _row(label: str, row: Sequence[Counts]) -> dict[str, Value]:
    found: dict[str, Value] = {"technique": label}
    for i, each in enumerate(row):
        found[f"trained{i}"] = each.trained
        found[f"share{i}"] = 100 * each.share
        if each.head:
            found[f"with_head{i}"] = 100 * (each.trained + each.head) / (each.host_parameters + each.head)
    found["stored"], found["inference"] = row[0].stored, row[0].inference
    found["formula"] = " or ".join(dict.fromkeys(each.formula for each in row))
    found["sizes"] = _sizes(row)
    return found


def _sizes(row: Sequence[Counts]) -> str:
    """The value of each symbol in the formulas; where hosts differ, one value for each of them."""
    names = dict.fromkeys(name for each in row for name, _ in each.numbers if name != "host")
    shown = []
    for name in names:
        values = [dict(each.numbers).get(name) for each in row]
        kinds = [f"{value:,}" if value is not None else "-" for value in values]
        shown.append(f"{name} = {kinds[0] if len(set(kinds)) == 1 else ' | '.join(kinds)}")
    return ", ".join(shown)


def counts_json(counts: Counts, label: str | None = None) -> dict[str, object]:
    """Counts for a program."""
    return {
        "technique": label or counts.technique,
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
