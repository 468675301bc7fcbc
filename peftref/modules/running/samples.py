"""One batch, several techniques: which samples each of them acts on, taken out of a tensor and put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from peftref.core.problem import fail
from peftref.modules.running.entering import Entering
from peftref.modules.running.flow import Flow


@dataclass(eq=False)
class Samples:
    """The name of the technique that acts on each sample of a batch, None for the host alone.

    expanding: whether each sample may stand several times in a row, as `generate` has it for beams. layout: the samples and tokens
    of the running call, by which a place that sees all tokens in one row is known.
    """

    names: tuple[str | None, ...]
    expanding: bool = False
    indices: dict[tuple[str | None, int, torch.device], Tensor] = field(default_factory=dict)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The names, each once."""
        return tuple(name for name in dict.fromkeys(self.names) if name is not None)

    def times(self, count: int) -> int:
        """How often each sample stands in a batch of so many; raises PeftrefError `samples` where it is another batch."""
        times, rest = divmod(count, len(self.names))
        if rest or not times or (times > 1 and not self.expanding):
            text = f"{len(self.names)} names are given, and the batch has {count} samples"
            raise fail("samples", text, hint="give one name, or None, for each sample")
        return times

    def index(self, name: str | None, count: int, times: int, device: torch.device) -> Tensor:
        """Where the entries of a technique's samples are among `count`, of which each sample has `times` in a row."""
        key = (name, count, device)
        if key not in self.indices:
            starts = [i * times for i, each in enumerate(self.names) if each == name]
            self.indices[key] = torch.tensor([first + i for first in starts for i in range(times)], device=device)
        return self.indices[key]

    def spread(self, values: dict[str | None, int], count: int) -> Tensor:
        """A number for each entry of a batch of so many samples, by the names: [count]; 0 for who has none."""
        return torch.tensor([values.get(name, 0) for name in self.names]).repeat_interleave(self.times(count))


@dataclass(frozen=True, eq=False)
class Part:
    """The samples of one technique in the running call of a stack."""

    samples: Samples
    name: str | None
    flow: Flow

    def index(self, count: int, device: torch.device, tokens: bool = False) -> Tensor:
        """The entries of these samples on the first axis. tokens: whether that axis holds all tokens, sample after sample.

        Raises PeftrefError `samples-layout` where the axis does not hold the samples of the batch.
        """
        batch, length = self.flow.shape or (count, None)
        if count == batch or self.flow.shape is None:
            return self.samples.index(self.name, count, self.samples.times(count), device)
        if tokens and length is not None and count == batch * length:
            return self.samples.index(self.name, count, self.samples.times(batch) * length, device)
        text = f"a place of the host gets {count} rows in a call of {batch} samples, and which sample each is of cannot be told"
        raise fail("samples-layout", text, hint="run the samples of each technique in a batch of their own")

    def take(self, value: Any) -> Any:
        """The entries of these samples of what has one for each; anything else as it is."""
        if isinstance(value, Entering):
            return value.taken(self.index)
        if not isinstance(value, Tensor) or value.dim() == 0:
            return value
        return value.index_select(0, self._index(value))

    def put(self, whole: Tensor, part: Tensor) -> Tensor:
        """The whole with the entries of these samples replaced; the others, and their gradients, stay."""
        return whole.index_copy(0, self._index(whole), part)

    def _index(self, value: Tensor) -> Tensor:
        return self.index(value.shape[0], value.device, tokens=value.dim() == 2)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While inside, the running call is told of these samples only."""
        flow = self.flow
        before = flow.mask, flow.packed, flow.tasks, flow.part, flow.shape
        if flow.tasks is not None and flow.shape is not None and flow.shape[0] != flow.tasks.shape[0]:
            flow.tasks = flow.tasks.repeat_interleave(flow.shape[0] // flow.tasks.shape[0])
        flow.mask, flow.packed = (each if each is None or len(each) == 1 else self.take(each) for each in before[:2])
        flow.tasks, flow.part = self.take(flow.tasks), self
        try:
            yield
        finally:
            flow.mask, flow.packed, flow.tasks, flow.part, flow.shape = before
