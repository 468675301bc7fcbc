"""Values that depend on leaves alone, kept while the leaves do not change and no gradient is wanted of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Keep:
    """What some leaves make: made anew for every step that trains them, and once for all others.

    A change of a leaf is seen by its version, place and type. What writes to `leaf.data` behind torch's back is seen at the next
    call of `train()` or `eval()`, or the next step that trains.
    """

    def __init__(self, *leaves: Tensor) -> None:
        self.leaves = leaves
        self.values: Any = None
        self.seen: tuple[Any, ...] = ()

    def __call__(self, make: Callable[[], Any]) -> Any:
        """The values: from `make`, or those that it gave before."""
        if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
            return make()
        if torch.is_grad_enabled() and any(leaf.requires_grad for leaf in self.leaves):
            self.forget()
            return make()
        now: tuple[Any, ...] = tuple((leaf.data_ptr(), leaf._version, leaf.dtype, leaf.device) for leaf in self.leaves)
        now = (*now, torch.is_autocast_enabled(self.leaves[0].device.type))
        if now != self.seen:
            self.values, self.seen = make(), now
        return self.values

    def forget(self) -> None:
        """Drops what was kept."""
        self.values, self.seen = None, ()
