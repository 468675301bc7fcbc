"""A study is a grid of runs; a run's id is the SHA-256 of everything that determines it. Plain immutable data, no torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from peftref.host.architecture import Frozen

NUMERIC_VERSION = 3
"""Raised whenever the same run would give other numbers, so that old records are not taken for new ones."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no blanks, the same text for equal values; ValueError on NaN and infinity.

    >>> canonical({"b": 1.0, "a": [2, None]})
    '{"a":[2,null],"b":1.0}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


Record = Mapping[str, Any]


class Entry(Frozen):
    """A technique as it takes part in a study.

    label: what tables call it. definition: SHA-256 of all of the technique that changes a number, its settings included. trained, stored,
    inference: parameters without the task head. share: trained over the host's parameters. asked: the trained parameters that the
    budget allows, None where no budget was given; budget: what was reached of it, in words.
    """

    label: str
    name: str
    title: str
    settings: Mapping[str, Any]
    definition: str
    trained: int
    stored: int
    inference: int
    formula: str
    share: float | None = None
    budget: str | None = None
    asked: int | None = None


class HostFacts(Frozen):
    """The host of a study: its name, type, parameters without a task head, and fingerprints."""

    name: str
    model_type: str
    parameters: int
    head_parameters: int
    fingerprint: str
    random: bool = False


class DataFacts(Frozen):
    """The data of a study: task, metric that stands first, classes, rows per split, fingerprint, and notes.

    guess: the scores on test of always guessing the most frequent class of train.
    """

    task: str
    title: str
    metric: str
    selection: str
    labels: tuple[str, ...]
    rows: Mapping[str, int]
    max_length: int
    fingerprint: str
    guess: Mapping[str, float] = {}
    notes: tuple[str, ...] = ()


class Schedule(Frozen):
    """How every technique of a study is trained alike. steps are optimizer steps of a final run, tune_steps of a tuning run."""

    steps: int
    tune_steps: int
    batch_size: int
    eval_every: int
    warmup: float = 0.06
    weight_decay: float = 0.0
    clip: float = 1.0


class Run(Frozen):
    """Everything that determines a run; machine, threads and versions stand in its record instead."""

    stage: Literal["tune", "final"]
    label: str
    definition: str
    host: str
    data: str
    metric: str
    max_length: int
    batch_size: int
    steps: int
    eval_every: int
    warmup: float
    weight_decay: float
    clip: float
    lr: float
    seed: int
    version: int = NUMERIC_VERSION

    @property
    def id(self) -> str:
        """The run's name in the store: 64 hex digits. The label is no part of it, since it changes no number."""
        return digest(self.model_dump(exclude={"label"}))


class Study(Frozen):
    """A study: techniques, host, data, seeds, the grid of learning rates, and the schedule.

    widen: how many rates beyond the grid are tried where its edge is the best, by the same rule for every technique.
    """

    techniques: tuple[Entry, ...]
    host: HostFacts
    data: DataFacts
    seeds: tuple[int, ...]
    lrs: tuple[float, ...]
    schedule: Schedule
    widen: int = 0
    notes: tuple[str, ...] = ()
    version: int = NUMERIC_VERSION

    @property
    def id(self) -> str:
        """Twelve hex digits that name the study."""
        return digest(self.model_dump(mode="json", exclude={"notes": True, "techniques": {"__all__": {"asked"}}}))[:12]

    def tuning(self, entry: Entry, tried: Iterable[Record] = ()) -> Run | None:
        """The next run that helps to choose a technique's learning rate, with the first seed; None where all is known.

        tried: the records of the runs so far. Where there is one rate, there is nothing to choose.
        """
        lr = None if len(self.lrs) == 1 else next_lr(self.lrs, tried, self.widen)
        return None if lr is None else self._run(entry, "tune", lr, self.seeds[0])

    def rate(self, tried: Iterable[Record]) -> float | None:
        """The learning rate of the final runs, after all tuning runs; None where none of them finished."""
        return self.lrs[0] if len(self.lrs) == 1 else choose_lr(tried)

    def final(self, entry: Entry, lr: float) -> tuple[Run, ...]:
        """The runs that are reported: the chosen learning rate, every seed."""
        return tuple(self._run(entry, "final", lr, seed) for seed in self.seeds)

    def steps(self) -> int:
        """Optimizer steps of the whole study, without learning rates beyond the grid."""
        tuned = len(self.lrs) * self.schedule.tune_steps if len(self.lrs) > 1 else 0
        return len(self.techniques) * (tuned + len(self.seeds) * self.schedule.steps)

    def _run(self, entry: Entry, stage: Literal["tune", "final"], lr: float, seed: int) -> Run:
        plan = self.schedule
        return Run(
            stage=stage,
            label=entry.label,
            definition=entry.definition,
            host=self.host.fingerprint,
            data=self.data.fingerprint,
            metric=self.data.selection,
            max_length=self.data.max_length,
            batch_size=plan.batch_size,
            steps=plan.tune_steps if stage == "tune" else plan.steps,
            eval_every=plan.tune_steps if stage == "tune" else plan.eval_every,
            warmup=plan.warmup,
            weight_decay=plan.weight_decay,
            clip=plan.clip,
            lr=lr,
            seed=seed,
        )


def choose_lr(records: Iterable[Record]) -> float | None:
    """The learning rate with the best dev score among tuning records; the lower dev loss, then the lower rate, breaks ties.

    A run that diverged or failed cannot win. None where none finished.

    >>> runs = [{"status": "finished", "run": {"lr": lr}, "dev": {"score": s, "loss": 1.0}} for lr, s in ((0.1, 0.5), (0.01, 0.7))]
    >>> choose_lr(runs)
    0.01
    """
    finished = [one for one in records if one["status"] == "finished"]
    ranked = sorted(finished, key=lambda one: (-one["dev"]["score"], one["dev"]["loss"], one["run"]["lr"]))
    return float(ranked[0]["run"]["lr"]) if ranked else None


def next_lr(lrs: Iterable[float], tried: Iterable[Record], widen: int) -> float | None:
    """The learning rate to try next: those of the grid in turn, then beyond its edge while the best stands there.

    At most `widen` rates beyond the grid, each half a decade further. Where no run finished, lower ones are tried.

    >>> runs = [{"status": "finished", "run": {"lr": lr}, "dev": {"score": lr, "loss": 1.0}} for lr in (0.001, 0.003)]
    >>> next_lr([0.001, 0.003], runs, 1), next_lr([0.001, 0.003], runs, 0)
    (0.01, None)
    """
    grid, records = sorted(set(lrs)), list(tried)
    known = {float(one["run"]["lr"]) for one in records}
    left = [lr for lr in grid if lr not in known]
    if left:
        return left[0]
    best = choose_lr(records)
    low, high = min(known), max(known)
    if len(known) >= len(grid) + widen:
        return None
    if best is None or best == low:
        return _half_decade(low, -1)
    return _half_decade(high, 1) if best == high else None


def _half_decade(value: float, turn: int) -> float:
    """The next of … 0.001, 0.003, 0.01, 0.03 … below or above a value."""
    return float(f"{10 ** ((round(2 * math.log10(value)) + turn) / 2):.1g}")
