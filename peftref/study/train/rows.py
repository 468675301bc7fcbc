"""Rows of a classification data set, as immutable values, and their fingerprint. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class Split:
    """The rows of one split: texts, second texts (empty where the task has none) and label numbers.

    >>> len(Split(("good", "bad"), (), (1, 0)))
    2
    """

    texts: tuple[str, ...]
    texts2: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[tuple[str, str | None, int]]:
        seconds = self.texts2 or (None,) * len(self.texts)
        return zip(self.texts, seconds, self.labels, strict=True)

    def take(self, positions: list[int]) -> Split:
        """The rows at some positions, in that order."""
        return Split(
            tuple(self.texts[at] for at in positions),
            tuple(self.texts2[at] for at in positions) if self.texts2 else (),
            tuple(self.labels[at] for at in positions),
        )

    def fingerprint(self) -> str:
        """SHA-256 over the rows in their order, 64 hex digits."""
        digest = hashlib.sha256()
        for row in self:
            digest.update(json.dumps(row, ensure_ascii=True).encode() + b"\n")
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Dataset:
    """The three splits of a task, its class names, and notes on what was done to get there.

    >>> one = Split(("a",), (), (0,))
    >>> Dataset("mine", ("no", "yes"), one, one, one).sizes()
    {'train': 1, 'dev': 1, 'test': 1}
    """

    name: str
    labels: tuple[str, ...]
    train: Split
    dev: Split
    test: Split
    notes: tuple[str, ...] = ()

    def split(self, name: str) -> Split:
        """The split called train, dev or test."""
        return {"train": self.train, "dev": self.dev, "test": self.test}[name]

    def sizes(self) -> dict[str, int]:
        """Rows per split."""
        return {name: len(self.split(name)) for name in SPLITS}

    def fingerprint(self) -> str:
        """SHA-256 over class names and all rows of all splits, 64 hex digits."""
        digest = hashlib.sha256(json.dumps(self.labels).encode())
        for name in SPLITS:
            digest.update(self.split(name).fingerprint().encode())
        return digest.hexdigest()
