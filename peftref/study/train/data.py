"""Rows to tensors: tokenised once, batched in an order that depends on the seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from peftref.study.train.rows import Split
from peftref.study.train.tokenizer import Tokenizer

WINDOW = 16
"""Batches whose rows are sorted by length among themselves."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A tokenised split. ids: [rows, longest], padded at the right; lengths, labels: [rows]; types: as ids, or None."""

    ids: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor
    types: torch.Tensor | None
    pad_id: int

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def batch(self, rows: torch.Tensor, device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
        """The rows as a model takes them: `input_ids`, `attention_mask`, `labels`, cut to the longest of them."""
        lengths = self.lengths[rows]
        longest = int(lengths.max())
        batch = {
            "input_ids": self.ids[rows, :longest],
            "attention_mask": (torch.arange(longest)[None, :] < lengths[:, None]).long(),
            "labels": self.labels[rows],
        }
        if self.types is not None:
            batch["token_type_ids"] = self.types[rows, :longest]
        return {name: tensor.to(device) for name, tensor in batch.items()}


def encode(split: Split, tokenizer: Tokenizer, max_length: int) -> Encoded:
    """A split as tensors; texts longer than `max_length` tokens (or than the host allows) are cut at their end."""
    limit = min(max_length, tokenizer.longest or max_length)
    inner = limit - (tokenizer.front is not None)
    pairs = list(split.texts2) if split.texts2 else None
    found = tokenizer.fast(list(split.texts), pairs, truncation=True, max_length=inner, return_attention_mask=False)
    front = [] if tokenizer.front is None else [tokenizer.front]
    rows = [front + ids for ids in found["input_ids"]]
    rows = [ids or [tokenizer.pad_id] for ids in rows]
    types = None
    if pairs is not None and "token_type_ids" in found:
        types = _pad([[0] * len(front) + list(one) for one in found["token_type_ids"]], 0)
    return Encoded(
        ids=_pad(rows, tokenizer.pad_id),
        lengths=torch.tensor([len(ids) for ids in rows]),
        labels=torch.tensor(split.labels),
        types=types,
        pad_id=tokenizer.pad_id,
    )


def order(rows: int, batch_size: int, steps: int, seed: int) -> Iterator[torch.Tensor]:
    """The row numbers of `steps` batches: one seeded shuffle after another, the same for every technique.

    A batch that the end of a shuffle cuts short is filled from the next one.

    >>> [batch.tolist() for batch in order(2, 2, 2, 0)] == [batch.tolist() for batch in order(2, 2, 2, 0)]
    True
    """
    generator = torch.Generator().manual_seed(seed)
    pool = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(pool) < batch_size:
            pool = torch.cat([pool, torch.randperm(rows, generator=generator)])
        yield pool[:batch_size]
        pool = pool[batch_size:]


def batches(encoded: Encoded, batch_size: int, steps: int, seed: int) -> Iterator[torch.Tensor]:
    """The row numbers of `steps` batches of rows of like length, so that little is padded; the same for every technique.

    `WINDOW` batches of the seeded shuffles at a time (fewer where there are fewer rows) are sorted by length, cut, and
    given in a seeded order.
    """
    many = max(1, min(WINDOW, len(encoded) // batch_size))
    generator = torch.Generator().manual_seed(seed)
    left = steps
    for window in order(len(encoded), batch_size * many, -(-steps // many), seed):
        ranked = window[torch.argsort(encoded.lengths[window], stable=True)].view(many, batch_size)
        for at in torch.randperm(many, generator=generator)[:left].tolist():
            yield ranked[at]
        left -= many


def by_length(encoded: Encoded, batch_size: int) -> Iterator[torch.Tensor]:
    """Every row once, batched with rows of like length so that little is padded."""
    ranked = torch.argsort(encoded.lengths, stable=True)
    for start in range(0, len(ranked), batch_size):
        yield ranked[start : start + batch_size]


def _pad(rows: list[list[int]], value: int) -> torch.Tensor:
    padded = torch.full((len(rows), max(map(len, rows))), value, dtype=torch.long)
    for at, ids in enumerate(rows):
        padded[at, : len(ids)] = torch.tensor(ids, dtype=torch.long)
    return padded
