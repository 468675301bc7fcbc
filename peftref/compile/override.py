"""One instance of a host's module gets another `forward`; the class, parameters, state and hooks stay untouched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


class Override:
    """`forward` of one instance replaced by a function that gets the original first; taken off without a trace."""

    def __init__(self, module: nn.Module, change: Callable[..., Any]) -> None:
        self.module = module
        self.change = change
        self.previous = module.__dict__.get("forward")
        self.original = module.forward
        module.__dict__["forward"] = self.forward

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The changed forward."""
        return self.change(self.original, *args, **kwargs)

    def remove(self) -> None:
        """Gives the module its own forward back."""
        if self.previous is None:
            del self.module.__dict__["forward"]
        else:
            self.module.__dict__["forward"] = self.previous
