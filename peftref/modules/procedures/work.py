"""What a procedure works on: the sites of a technique with their leaves and weights, what it is told, and what it remembers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from peftref.core.problem import fail
from peftref.host.site import Site

Batch = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """A site with the leaves that a procedure speaks of, by the names in its table.

    names: what the tensors are called in the module; equal names are one tensor. quantity: gives `W` [d_out, d_in] and `b` [d_out].
    """

    site: Site
    leaves: Mapping[str, nn.Parameter]
    names: Mapping[str, str]
    quantity: Callable[[str], Tensor]

    @property
    def weight(self) -> Tensor:
        """The weight of the host [d_out, d_in], in single precision at least."""
        return precise(self.quantity("W"))

    @property
    def bias(self) -> Tensor | None:
        """The bias of the host [d_out], in single precision at least, or None where it has none."""
        return None if "b" in self.site.lacks else precise(self.quantity("b"))

    @torch.no_grad()
    def put(self, **values: Tensor) -> None:
        """Gives leaves their values. Raises PeftrefError `init-size` where the host has no room for the shape of a leaf."""
        for leaf, value in values.items():
            own = self.leaves[leaf]
            if own.shape != value.shape:
                text = f"{self.names[leaf]} is {list(own.shape)}, and there are only {list(value.shape)} numbers for it"
                raise fail("init-size", text, hint="choose sizes that this host has room for")
            own.copy_(value)


@dataclass(frozen=True)
class Work:
    """The places of a procedure, what it is told, and a memory that is saved with the module. seed: of what is drawn at random.

    batches, model: what a procedure that reads data is given, and the host to run them through.
    """

    places: tuple[Place, ...]
    told: Mapping[str, Any]
    memory: dict[str, Tensor] = field(default_factory=dict)
    seed: int = 0
    model: nn.Module | None = None
    batches: Iterable[Batch] = ()

    def tensors(self, *leaves: str) -> dict[str, nn.Parameter]:
        """The tensors of some leaves over all places, each once, by their names in the module."""
        return {place.names[leaf]: place.leaves[leaf] for place in self.places for leaf in leaves}

    def together(self, leaf: str) -> list[list[Place]]:
        """The places in groups that share one copy of a leaf."""
        found: dict[str, list[Place]] = {}
        for place in self.places:
            found.setdefault(place.names[leaf], []).append(place)
        return list(found.values())


def precise(value: Tensor) -> Tensor:
    """A value without its graph, in single precision at least."""
    return value.detach().to(torch.promote_types(value.dtype, torch.float32))
