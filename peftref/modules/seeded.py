"""Frozen random leaves that a seed gives again: they need not be kept, only checked."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from peftref.core.problem import PeftrefError
from peftref.design.inits import INITS
from peftref.design.placement import Copy
from peftref.modules.compile.module import Inserted, empty, initialise
from peftref.modules.running.bare import module_at
from peftref.modules.running.own import Own


def seeded(model: nn.Module, inserted: Inserted, copy: Copy, seed: int) -> Tensor | None:
    """The first values of a frozen leaf that is random and follows from its seed and sizes alone; None for any other."""
    row = INITS[copy.leaf.init]
    if copy.leaf.trainable or not row.random or any(each.kind == "leaf" for each in row.parameters):
        return None
    named = {value for _, value in copy.leaf.init_args if value in ("W", "b", "g", "E")}
    site = copy.sites[0]
    own = Own(module_at(model, site.path))
    sizes = {str(name): own.quantity(str(name), site).to("meta") for name in named}
    value = empty(copy)
    try:
        initialise(value, copy, inserted.technique.settings, sizes, seed)
    except (PeftrefError, NotImplementedError):  # it reads numbers of the host
        return None
    return value


def digest(value: Tensor) -> str:
    """The digest of a tensor's numbers.

    >>> digest(torch.zeros(2)) == digest(torch.zeros(2)) != digest(torch.ones(2))
    True
    """
    return hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()


def made_from_seed(model: nn.Module, inserted: Inserted) -> dict[str, str]:
    """The digests of the leaves that still are what the seed gives, by name."""
    found = {}
    for copy in inserted.copies:
        value = seeded(model, inserted, copy, inserted.seed)
        leaf = inserted.leaf(copy.name)
        if value is not None and torch.equal(value.to(leaf.dtype), leaf.detach().to("cpu")):
            found[copy.name] = digest(value)
    return found
