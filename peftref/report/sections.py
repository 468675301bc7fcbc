"""What stands behind a comparison table: a reading of the scores, costs, tuning, settings, failures, versions and hardware."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from peftref.report.findings import Findings, Record
from peftref.report.table import Column, Table, Value
from peftref.report.verdict import LEAST, spoken

Section = tuple[str, Table | list[str]]


def sections(findings: Findings) -> list[Section]:
    """The sections of a report that have something to say, each a heading with a table or with lines."""
    parts: list[Section] = [
        ("What the scores say", reading(findings)),
        ("Costs", _costs(findings)),
        ("Techniques", _techniques(findings)),
        ("Learning rates", _rates(findings)),
        ("How it was done", _settings(findings)),
        ("Runs that did not finish", failures(findings)),
        ("Notes", _notes(findings)),
        ("Versions and hardware", _environments(findings)),
    ]
    return [(title, part) for title, part in parts if (part.rows if isinstance(part, Table) else part)]


def reading(findings: Findings) -> list[str]:
    """The scores in words: what intervals allow to be said of differences, and what was not run to its end."""
    data = findings.study.data
    scores = {entry.label: findings.scores(entry.label, data.metric) for entry in findings.study.techniques}
    means = {label: statistics.fmean(values) for label, values in scores.items() if values}
    missing = [label for label, values in scores.items() if not values]
    few = [label for label in means if len(scores[label]) < LEAST]
    lines = [f"no run has finished: {', '.join(missing)}"] if missing else []
    if not means:
        return lines
    most = max(len(values) for values in scores.values())
    if few and most >= LEAST:
        lines.append(f"fewer than {LEAST} finished seeds, so that nothing is claimed: {', '.join(few)}")
    metric = data.metric.replace("_", " ")
    return [*spoken(findings.verdict(data.metric), metric, means, most, data.guess.get(data.metric)), *lines]


def failures(findings: Findings) -> list[str]:
    """Every run that failed or diverged, and records that were found damaged."""
    lines = []
    for record in findings.records():
        run = record["run"]
        if record["status"] != "finished":
            error = " ".join(str(record.get("error")).split())
            lines.append(
                f"{run['label']}, {run['stage']}, seed {run['seed']}, lr {run['lr']:g}: {record['status']}: {error}"
            )
    if findings.damaged:
        lines.append(
            f"{len(findings.damaged)} records were damaged, set aside in quarantine/, and are run again by compare"
        )
    return lines


def _costs(findings: Findings) -> Table:
    columns = (
        Column("technique", "technique"),
        Column("step", "step", "ms", 2),
        Column("quartiles", "quartiles", "ms"),
        Column("host", "step / frozen host", digits=3),
        Column("head", "step / head only", digits=3),
        Column("memory", "memory / frozen host", digits=3),
        Column("forward", "FLOPs / token forward", "k", 1),
        Column("backward", "backward", "k", 1),
        Column("unmerged", "inference / host", digits=3),
        Column("merged", "merged / host", digits=3),
        Column("error", "merge error"),
        Column("tensors", "tensors in the file", "bytes"),
    )
    rows = tuple(
        _cost(entry.label, measures)
        for entry in findings.study.techniques
        if (measures := findings.measures(entry.label))
    )
    notes = (
        "measured once per technique, on the first seed; every ratio is the median of ratios within rounds on one batch, contenders taking turns",
        "FLOPs: counted by torch with eager attention, padding counted as tokens; merge error: largest change of a logit",
    )
    return Table(columns, rows, notes=notes)


def _cost(label: str, measures: Mapping[str, Any]) -> dict[str, Value]:
    step, memory, flops, inference, file = (
        measures.get(each) or {} for each in ("step", "memory", "flops", "inference", "file")
    )
    error = inference.get("merge_error")
    return {
        "technique": label,
        "step": 1e3 * step["seconds"] if step else None,
        "quartiles": f"{1e3 * step['low']:.1f} to {1e3 * step['high']:.1f}" if step else None,
        "host": step.get("ratio_to_frozen_host"),
        "head": step.get("ratio_to_head_only"),
        "memory": memory.get("ratio_to_frozen_host"),
        "forward": 1e-3 * flops["forward_per_token"] if flops else None,
        "backward": 1e-3 * flops["backward_per_token"] if flops else None,
        "unmerged": inference.get("unmerged_ratio_to_host"),
        "merged": inference.get("merged_ratio_to_host"),
        "error": None if error is None else f"{error:.1e}",
        "tensors": file.get("tensor_bytes"),
    }


def _techniques(findings: Findings) -> Table:
    columns = (
        Column("technique", "technique"),
        Column("title", "title"),
        Column("settings", "settings"),
        Column("formula", "trained parameters", code=True),
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
    """The dev score of every rate that was tried, and what trying cost."""
    study = findings.study
    tried = {float(record["run"]["lr"]) for records in findings.tuning.values() for record in records}
    rates = sorted({*study.lrs, *tried}) if len(study.lrs) > 1 else []
    columns = (
        Column("technique", "technique"),
        *(Column(f"{rate:g}", f"{rate:g}", digits=4) for rate in rates),
        Column("seconds", "tuning", "s", 1),
        Column("edge", "taken"),
    )
    rows = []
    for entry in study.techniques:
        records = findings.tuning[entry.label]
        row: dict[str, Value] = {"technique": entry.label, "seconds": sum(record["seconds"] for record in records)}
        for record in records:
            row[f"{record['run']['lr']:g}"] = _dev(record)
        row["edge"] = _taken(findings.lr[entry.label], records)
        rows.append(row)
    note = f"{study.data.selection.replace('_', ' ')} on dev after {study.schedule.tune_steps} steps with seed {study.seeds[0]}; the best was taken"
    return Table(columns, tuple(rows) if rates else (), notes=(note,))


def _dev(record: Record) -> Value:
    score = (record.get("dev") or {}).get("score") if record["status"] == "finished" else None
    return str(record["status"]) if score is None else float(score)


def _taken(rate: float | None, records: tuple[Record, ...]) -> str:
    if rate is None:
        return "none finished"
    tried = [float(record["run"]["lr"]) for record in records]
    return f"{rate:g}, at the edge" if tried and rate in (min(tried), max(tried)) else f"{rate:g}"


def _settings(findings: Findings) -> list[str]:
    study, plan = findings.study, findings.study.schedule
    host, data = study.host, study.data
    spent = sum(float(record["seconds"]) for record in findings.records())
    return [
        f"host: {host.name} ({host.model_type}), {host.parameters:,} parameters without a head, fingerprint {host.fingerprint[:12]}"
        + (", RANDOM weights" if host.random else ""),
        f"task head: {host.head_parameters:,} parameters, made anew from each seed, trained at the technique's learning rate",
        f"data: {data.title}, rows {', '.join(f'{name} {data.rows[name]:,}' for name in ('train', 'dev', 'test') if name in data.rows)}, "
        f"texts up to {data.max_length} tokens, fingerprint {data.fingerprint[:12]}",
        f"training: {plan.steps} steps of AdamW, batches of {plan.batch_size} texts of like length, warm-up {plan.warmup:.0%} then linear decay, "
        f"weight decay {plan.weight_decay:g}, gradients clipped at {plan.clip:g}; the same batches in the same order for every technique",
        _rate_note(findings),
        f"seeds: {', '.join(map(str, study.seeds))}; time spent in {len(findings.records())} runs: {spent:,.0f} s",
        *study.notes,
    ]


def _rate_note(findings: Findings) -> str:
    study = findings.study
    if len(study.lrs) == 1:
        return f"learning rate: {study.lrs[0]:g} for every technique, not tuned"
    rates = ", ".join(f"{rate:g}" for rate in study.lrs)
    wider = f", and up to {study.widen} more beyond the edge where the best stands there" if study.widen else ""
    return f"learning rates: {rates}{wider}, the same rule for every technique; chosen on dev, never on test"


def _notes(findings: Findings) -> list[str]:
    return sorted(
        {f"{record['run']['label']}: {note}" for record in findings.records() for note in record.get("notes", ())}
    )


def _environments(findings: Findings) -> list[str]:
    found: dict[str, None] = {}
    for record in findings.records():
        place = record.get("environment") or {}
        versions = ", ".join(f"{name} {version}" for name, version in (place.get("versions") or {}).items())
        found[
            f"{place.get('cpu')}, {place.get('cores')} cores, {place.get('threads')} threads, gpu {place.get('gpu') or 'none'}, {place.get('system')}; {versions}"
        ] = None
    return list(found) or ["no run has finished yet"]
