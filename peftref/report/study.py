"""The report of a study, from its records alone: the comparison table, what stands behind it, and the plots."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftref.bench.plan import Entry, Study
from peftref.bench.store import Store
from peftref.report.page import page
from peftref.report.plots import plots
from peftref.report.table import Column, Table, to_html, to_markdown

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Findings:
    """A study with what it found: per technique the tuning runs, the chosen learning rate, and the final runs so far."""

    study: Study
    tuning: Mapping[str, tuple[Record, ...]]
    lr: Mapping[str, float | None]
    finals: Mapping[str, tuple[Record, ...]]

    def finished(self, label: str) -> tuple[Record, ...]:
        """The final runs of a technique that came to their end."""
        return tuple(record for record in self.finals[label] if record["status"] == "finished")

    def scores(self, label: str, metric: str) -> list[float]:
        """The test scores of a technique, one per finished seed."""
        return [float(record["test"][metric]) for record in self.finished(label)]

    def measures(self, label: str) -> Mapping[str, Any]:
        """What was measured of a technique, in the first run that has it."""
        return next((record["measures"] for record in self.finished(label) if record.get("measures")), {})

    def records(self) -> list[Record]:
        """Every record there is."""
        return [record for group in (self.tuning, self.finals) for records in group.values() for record in records]


def read_findings(folder: str | Path) -> Findings:
    """The findings of a study's folder, complete or not. Raises PeftrefError `no-study`."""
    store = Store(Path(folder))
    study = Study.model_validate(store.read_plan())
    tuning: dict[str, tuple[Record, ...]] = {}
    rates: dict[str, float | None] = {}
    finals: dict[str, tuple[Record, ...]] = {}
    for entry in study.techniques:
        found: list[Record] = []
        while (run := study.tuning(entry, found)) is not None and (record := store.read(run.id)) is not None:
            found.append(record)
        rate = study.rate(found) if run is None else None
        runs = study.final(entry, rate) if rate is not None else ()
        tuning[entry.label], rates[entry.label] = tuple(found), rate
        finals[entry.label] = tuple(record for run in runs if (record := store.read(run.id)) is not None)
    return Findings(study, tuning, rates, finals)


COLUMNS = (
    Column("technique", "technique"),
    Column("accuracy", "accuracy", digits=4, better="high"),
    Column("accuracy_spread", "±", digits=4),
    Column("f1", "macro F1", digits=4, better="high"),
    Column("f1_spread", "±", digits=4),
    Column("runs", "runs"),
    Column("lr", "lr"),
    Column("trained", "trained"),
    Column("share", "share", "%", 3),
    Column("stored", "stored"),
    Column("step", "step", "ms", 1, "low"),
    Column("step_ratio", "step / frozen host", digits=2, better="low"),
    Column("memory", "memory", "MB", 2, "low"),
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
        "best values in bold; differences within the spread are no differences",
        "trained, share and stored leave the task head out, which is always trained "
        f"({study.host.head_parameters:,} parameters); the file holds it",
        "step: forward + backward + optimizer, median; frozen host: the same host with one trainable vector at its bottom, "
        "taking turns in the same process",
        f"memory: {_memory(findings)}",
    ]
    return Table(COLUMNS, rows, f"{study.data.title} on {study.host.name}", tuple(notes))


def _memory(findings: Findings) -> str:
    found = [findings.measures(entry.label).get("memory") for entry in findings.study.techniques]
    return next((str(each["what"]) for each in found if each), "not measured")


def _row(findings: Findings, entry: Entry) -> dict[str, str | int | float | bool | None]:
    measures = findings.measures(entry.label)
    accuracy, f1 = (findings.scores(entry.label, metric) for metric in ("accuracy", "macro_f1"))
    step, memory, flops, inference, file = (
        measures.get(each) or {} for each in ("step", "memory", "flops", "inference", "file")
    )
    rate = findings.lr[entry.label]
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
    table, sections = comparison(findings), _sections(findings)
    text = [
        f"# {findings.study.data.title} on {findings.study.host.name}",
        "",
        to_markdown(Table(table.columns, table.rows, notes=table.notes)),
    ]
    for title, section in sections:
        text += [
            f"## {title}",
            "",
            to_markdown(section) if isinstance(section, Table) else "\n".join(f"- {line}" for line in section),
            "",
        ]
    store = Store(Path(folder))
    drawn = [(title, to_html(part) if isinstance(part, Table) else part) for title, part in sections]
    html = page(table.title, to_html(Table(table.columns, table.rows, notes=table.notes)), plots(findings), drawn)
    return (
        store.write_text("report.md", "\n".join(text).rstrip() + "\n"),
        store.write_text("report.html", html),
    )


Section = tuple[str, "Table | list[str]"]


def _sections(findings: Findings) -> list[Section]:
    study, plan = findings.study, findings.study.schedule
    host, data = study.host, study.data
    sections: list[Section] = [
        ("Techniques", _techniques(findings)),
        *([("Learning rates", _rates(findings))] if len(study.lrs) > 1 else []),
        (
            "How it was done",
            [
                f"host: {host.name} ({host.model_type}), {host.parameters:,} parameters without a head, fingerprint {host.fingerprint[:12]}"
                + (", RANDOM weights" if host.random else ""),
                f"data: {data.title}, rows {', '.join(f'{name} {rows:,}' for name, rows in data.rows.items())}, texts up to {data.max_length} tokens, fingerprint {data.fingerprint[:12]}",
                f"training: {plan.steps} steps of AdamW, batches of {plan.batch_size}, warm-up {plan.warmup:.0%} then linear decay, weight decay {plan.weight_decay:g}, gradients clipped at {plan.clip:g}; the same batches in the same order for every technique",
                _rate_note(study),
                f"seeds: {', '.join(map(str, study.seeds))}",
                *study.notes,
            ],
        ),
    ]
    failures = [
        f"{record['run']['label']}, seed {record['run']['seed']}, lr {record['run']['lr']:g}: {record['status']}: {record.get('error')}"
        for record in findings.records()
        if record["status"] != "finished"
    ]
    notes = sorted(
        {f"{record['run']['label']}: {note}" for record in findings.records() for note in record.get("notes", ())}
    )
    if failures:
        sections.append(("Runs that did not finish", failures))
    if notes:
        sections.append(("Notes", notes))
    sections.append(("Versions and hardware", _environments(findings)))
    return sections


def _rate_note(study: Study) -> str:
    if len(study.lrs) == 1:
        return f"learning rate: {study.lrs[0]:g} for every technique, not tuned"
    rates = ", ".join(f"{rate:g}" for rate in study.lrs)
    tried = f"each tried for {study.schedule.tune_steps} steps with seed {study.seeds[0]}"
    return f"learning rates: {rates}, {tried}; the best {study.data.selection} on dev was taken"


def _techniques(findings: Findings) -> Table:
    columns = (
        Column("technique", "technique"),
        Column("title", "title"),
        Column("settings", "settings"),
        Column("formula", "trained parameters"),
        Column("inference", "needed at inference"),
        Column("budget", "budget"),
    )
    rows = tuple(
        {
            "technique": entry.label,
            "title": entry.title,
            "settings": ", ".join(f"{name} = {value}" for name, value in entry.settings.items()),
            "formula": entry.formula,
            "inference": entry.inference,
            "budget": entry.budget,
        }
        for entry in findings.study.techniques
    )
    used = columns if any(row["budget"] for row in rows) else columns[:-1]
    return Table(used, rows)


def _rates(findings: Findings) -> Table:
    columns = [
        Column("technique", "technique"),
        *(Column(f"{rate:g}", f"{rate:g}", digits=4) for rate in findings.study.lrs),
    ]
    rows = []
    for entry in findings.study.techniques:
        row: dict[str, str | int | float | bool | None] = {"technique": entry.label}
        for record in findings.tuning[entry.label]:
            score = (record.get("dev") or {}).get("score") if record["status"] == "finished" else record["status"]
            row[f"{record['run']['lr']:g}"] = score
        rows.append(row)
    note = f"{findings.study.data.selection} on dev after the tuning steps; the best was taken"
    return Table(tuple(columns), tuple(rows), notes=(note,))


def _environments(findings: Findings) -> list[str]:
    found: dict[str, None] = {}
    for record in findings.records():
        place = record.get("environment") or {}
        versions = ", ".join(f"{name} {version}" for name, version in (place.get("versions") or {}).items())
        found[
            f"{place.get('cpu')}, {place.get('cores')} cores, {place.get('threads')} threads, gpu {place.get('gpu') or 'none'}, {place.get('system')}; {versions}"
        ] = None
    return list(found) or ["no run has finished yet"]
