"""A study is a grid of runs; a run's id is the SHA-256 of everything that determines it. Plain immutable data, no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from peftref.host.architecture import Frozen

NUMERIC_VERSION = 1
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


class Entry(Frozen):
    """A technique as it takes part in a study.

    label: what tables call it. definition: SHA-256 of the technique as written, its settings included. trained, stored,
    inference: parameters without the task head. share: trained over the host's parameters. budget: what the budget asked
    and what was reached, in words; None where no budget was given.
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


class HostFacts(Frozen):
    """The host of a study: its name, type, parameters without a task head, and fingerprints."""

    name: str
    model_type: str
    parameters: int
    head_parameters: int
    fingerprint: str
    random: bool = False


class DataFacts(Frozen):
    """The data of a study: task, metric that stands first, classes, rows per split, fingerprint, and notes."""

    task: str
    title: str
    metric: str
    selection: str
    labels: tuple[str, ...]
    rows: Mapping[str, int]
    max_length: int
    fingerprint: str
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
    """A study: techniques, host, data, seeds, the grid of learning rates, and the schedule."""

    techniques: tuple[Entry, ...]
    host: HostFacts
    data: DataFacts
    seeds: tuple[int, ...]
    lrs: tuple[float, ...]
    schedule: Schedule
    notes: tuple[str, ...] = ()
    version: int = NUMERIC_VERSION

    @property
    def id(self) -> str:
        """Twelve hex digits that name the study."""
        return digest(self.model_dump(mode="json", exclude={"notes"}))[:12]

    def tuning(self, entry: Entry) -> tuple[Run, ...]:
        """The runs that choose a technique's learning rate: the first seed, every rate; none where there is one rate."""
        if len(self.lrs) == 1:
            return ()
        return tuple(self._run(entry, "tune", lr, self.seeds[0]) for lr in self.lrs)

    def final(self, entry: Entry, lr: float) -> tuple[Run, ...]:
        """The runs that are reported: the chosen learning rate, every seed."""
        return tuple(self._run(entry, "final", lr, seed) for seed in self.seeds)

    def steps(self) -> int:
        """Optimizer steps of the whole study."""
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


Record = Mapping[str, Any]


def choose_lr(lrs: Iterable[float], records: Iterable[Record]) -> float | None:
    """The learning rate with the best dev score among tuning records; the lower dev loss, then the lower rate, breaks ties.

    A run that diverged or failed cannot win. None where none finished.

    >>> runs = [{"status": "finished", "run": {"lr": lr}, "dev": {"score": s, "loss": 1.0}} for lr, s in ((0.1, 0.5), (0.01, 0.7))]
    >>> choose_lr([0.1, 0.01], runs)
    0.01
    """
    wanted = set(lrs)
    finished = [one for one in records if one["status"] == "finished" and one["run"]["lr"] in wanted]
    ranked = sorted(finished, key=lambda one: (-one["dev"]["score"], one["dev"]["loss"], one["run"]["lr"]))
    return float(ranked[0]["run"]["lr"]) if ranked else None
