"""What this part asks of a module that is attached to a host; `peftref.attach` gives it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn


class Attached(Protocol):
    """A technique's module on a host."""

    @property
    def mergeable(self) -> bool:
        """Whether the module can be folded into the host's weights."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """The technique's trainable parameters, without the task head."""

    def lr_factor(self, parameter: nn.Parameter) -> float:
        """The factor on the learning rate of a parameter."""

    @property
    def waiting(self) -> tuple[str, ...]:
        """What waits for data before the module can be trained."""

    def begin(self, batches: Iterable[Mapping[str, Any]]) -> object:
        """Give the module its first values from a few batches."""

    def penalty(self) -> torch.Tensor | float:
        """What is added to the loss."""

    def step(self, done: int, total: int) -> None:
        """What follows a step of the optimizer, with the gradients still there."""

    def note(self, **facts: bool | int | float | str) -> None:
        """Note how the module is trained."""

    def merge(self) -> object:
        """Fold the module into the host."""

    def unmerge(self) -> object:
        """Take the module out of the host's weights again."""

    def save(self, folder: Path) -> object:
        """Write the module into a folder."""


class Attach(Protocol):
    """Attaches a technique to a host, in place."""

    def __call__(self, model: Any, technique: Any, *, seed: int = 0) -> Attached:
        """The attached module; the host is frozen, the module's parameters are trainable."""


def trainable(model: Any, attached: Attached, head: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """What is trained: the module's parameters and the task head's, each once; everything else of the host is frozen."""
    own = {id(one): one for one in [*attached.parameters(), *head]}
    for parameter in own.values():
        parameter.requires_grad_(True)
    return list(own.values())
