"""The report of a study, from its records alone: the comparison table, what stands behind it, and the plots."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from peftref.report.findings import Findings as Findings
from peftref.report.findings import read_findings as read_findings
from peftref.report.forms import markdown_text, to_html, to_markdown
from peftref.report.page import page
from peftref.report.plots import plots
from peftref.report.sections import sections
from peftref.report.table import Column, Table
from peftref.study.plan import Entry
from peftref.study.store import Store

COLUMNS = (
    Column("technique", "technique"),
    Column("accuracy", "accuracy", digits=4),
    Column("accuracy_spread", "±", digits=4),
    Column("f1", "macro F1", digits=4),
    Column("f1_spread", "±", digits=4),
    Column("runs", "runs"),
    Column("lr", "lr"),
    Column("trained", "trained"),
    Column("share", "share", "%", 3),
    Column("with_head", "share with the head", "%", 3),
    Column("budget", "over or under the budget", "%"),
    Column("stored", "stored"),
    Column("step", "step", "ms", 1),
    Column("step_ratio", "step / frozen host", digits=2, better="low"),
    Column("memory", "memory", "MB", 2),
    Column("flops", "FLOPs / token", "k", 0, "low"),
    Column("unmerged", "inference", "ms", 1),
    Column("merged", "merged", "ms", 1),
    Column("file", "file", "kB", 1),
)


def comparison(findings: Findings) -> Table:
    """The comparison table: means over seeds, their standard deviation beside them, costs measured once per technique."""
    study = findings.study
    rows = tuple(_row(findings, entry) for entry in study.techniques)
    notes = [
        f"means over {len(study.seeds)} seed{'s' * (len(study.seeds) > 1)} on the test split ({study.data.rows['test']} rows), which nothing was chosen on; "
        "± is the sample standard deviation",
        "bold: the best mean and what is not told apart from it, where an interval tells it apart from others; of costs, ratios "
        "measured side by side",
        "trained, share and stored leave the task head out, which is always trained "
        f"({study.host.head_parameters:,} parameters); the file holds it",
        "step: forward + backward + optimizer, median; frozen host: the same host with one trainable vector at its bottom, "
        "taking turns in the same process",
        f"memory: {_memory(findings)}",
    ]
    used = tuple(column for column in COLUMNS if column.key != "budget" or any(row["budget"] for row in rows))
    return Table(used, rows, f"{study.data.title} on {study.host.name}", tuple(notes), _marked(findings))


def _marked(findings: Findings) -> dict[str, frozenset[int]]:
    """The rows that stand out in each metric, as far as intervals allow."""
    found = {key: findings.verdict(metric).marked for key, metric in (("accuracy", "accuracy"), ("f1", "macro_f1"))}
    labels = [entry.label for entry in findings.study.techniques]
    return {key: frozenset(i for i, label in enumerate(labels) if label in those) for key, those in found.items()}


def _memory(findings: Findings) -> str:
    found = [findings.measures(entry.label).get("memory") for entry in findings.study.techniques]
    return next((str(each["what"]) for each in found if each), "not measured")


def _row(findings: Findings, entry: Entry) -> dict[str, str | int | float | bool | None]:
    measures = findings.measures(entry.label)
    accuracy, f1 = (findings.scores(entry.label, metric) for metric in ("accuracy", "macro_f1"))
    step, memory, flops, inference, file = (
        measures.get(each) or {} for each in ("step", "memory", "flops", "inference", "file")
    )
    rate, host = findings.lr[entry.label], findings.study.host
    head = host.head_parameters
    return {
        "technique": entry.label,
        "accuracy": _mean(accuracy),
        "accuracy_spread": _spread(accuracy),
        "f1": _mean(f1),
        "f1_spread": _spread(f1),
        "runs": f"{len(accuracy)}/{len(findings.study.seeds)}",
        "lr": None if rate is None else f"{rate:g}",
        "trained": entry.trained,
        "share": None if entry.share is None else 100 * entry.share,
        "with_head": None if not head else 100 * (entry.trained + head) / (host.parameters + head),
        "budget": None if entry.asked is None else f"{100 * (entry.trained / entry.asked - 1):+.1f}",
        "stored": entry.stored,
        "step": _scaled(step.get("seconds"), 1e3),
        "step_ratio": step.get("ratio_to_frozen_host"),
        "memory": _scaled(memory.get("bytes"), 1e-6),
        "flops": _scaled(flops.get("step_per_token"), 1e-3),
        "unmerged": _scaled((inference.get("unmerged") or {}).get("seconds"), 1e3),
        "merged": _scaled((inference.get("merged") or {}).get("seconds"), 1e3),
        "file": _scaled(file.get("bytes"), 1e-3),
    }


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _spread(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else float(value) * factor


def write_report(folder: str | Path) -> tuple[Path, Path]:
    """Writes `report.md` and `report.html` into a study's folder, from its records alone; returns both paths.

    Raises PeftrefError `no-study`, `cannot-write`, `disk-full`.
    """
    findings = read_findings(folder)
    table, parts = comparison(findings), sections(findings)
    text = [
        f"# {markdown_text(table.title)}",
        "",
        to_markdown(replace(table, title="")),
    ]
    for title, section in parts:
        text += [
            f"## {markdown_text(title)}",
            "",
            to_markdown(section)
            if isinstance(section, Table)
            else "\n".join(f"- {markdown_text(line)}" for line in section),
            "",
        ]
    store = Store(Path(folder))
    drawn = [(title, to_html(part) if isinstance(part, Table) else part) for title, part in parts]
    html = page(table.title, to_html(replace(table, title="")), plots(findings), drawn)
    return (
        store.write_text("report.md", "\n".join(text).rstrip() + "\n"),
        store.write_text("report.html", html),
    )
