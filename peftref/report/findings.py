"""What a study found: its records put in order, without a judgement on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftref.report.verdict import Verdict, verdict
from peftref.study.plan import Study
from peftref.study.store import Store

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Findings:
    """A study with what it found: per technique the tuning runs, the chosen learning rate, and the final runs so far."""

    study: Study
    tuning: Mapping[str, tuple[Record, ...]]
    lr: Mapping[str, float | None]
    finals: Mapping[str, tuple[Record, ...]]
    damaged: tuple[str, ...] = ()

    def finished(self, label: str) -> tuple[Record, ...]:
        """The final runs of a technique that came to their end."""
        return tuple(record for record in self.finals[label] if record["status"] == "finished")

    def by_seed(self, label: str, metric: str) -> dict[int, float]:
        """The test scores of a technique by seed."""
        return {int(record["run"]["seed"]): float(record["test"][metric]) for record in self.finished(label)}

    def verdict(self, metric: str) -> Verdict:
        """What the scores in a metric allow to be said."""
        scores = {entry.label: self.by_seed(entry.label, metric) for entry in self.study.techniques}
        return verdict(scores, self.study.data.guess.get(metric))

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
    damaged = tuple(sorted(path.name for path in (Path(folder) / "quarantine").glob("*.json")))
    return Findings(study, tuning, rates, finals, damaged)
