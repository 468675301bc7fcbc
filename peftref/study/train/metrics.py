"""Scores of a classifier from its predictions. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scores:
    """What an evaluation gave: accuracy and macro F1 in [0, 1], mean cross entropy in nats, and how many rows."""

    accuracy: float
    macro_f1: float
    loss: float
    rows: int

    def metric(self, name: str) -> float:
        """The score of a name: accuracy or macro_f1."""
        return {"accuracy": self.accuracy, "macro_f1": self.macro_f1}[name]


def accuracy(truth: Sequence[int], guessed: Sequence[int]) -> float:
    """The share of rows whose class was guessed; ValueError where there are none.

    >>> accuracy([0, 1, 1, 0], [0, 1, 0, 0])
    0.75
    """
    if not truth:
        raise ValueError("no rows to score")
    return sum(true == guess for true, guess in zip(truth, guessed, strict=True)) / len(truth)


def macro_f1(truth: Sequence[int], guessed: Sequence[int]) -> float:
    """The mean, over the classes that occur in truth or guesses, of F1 = 2 tp / (2 tp + fp + fn).

    >>> macro_f1([0, 0, 1, 1], [0, 0, 0, 1])
    0.7333333333333334
    """
    if not truth:
        raise ValueError("no rows to score")
    pairs = list(zip(truth, guessed, strict=True))
    values = []
    for label in sorted({*truth, *guessed}):
        hits = sum(true == label == guess for true, guess in pairs)
        wrong = sum((true == label) != (guess == label) for true, guess in pairs)
        values.append(2 * hits / (2 * hits + wrong))
    return sum(values) / len(values)
