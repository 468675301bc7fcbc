"""One instance of a host's module gets another `forward`; the class, parameters, state and hooks stay untouched."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

Change = Callable[..., Any]


def arguments(module: nn.Module) -> tuple[str, ...]:
    """The names of the arguments that a module takes, whatever stands in for its forward.

    >>> arguments(nn.Linear(1, 1))
    ('input',)
    """
    return tuple(inspect.signature(type(module).forward).parameters)[1:]


class Standing(nn.Module):
    """What is no module of the host, and takes its place in the host while something changes its `forward`."""

    def begin(self) -> None:
        """Takes its place."""

    def end(self) -> None:
        """Leaves it."""


class Chain:
    """What stands in for the `forward` of one module: the original, wrapped by each change in the order in which they came.

    It stands there as its bound method `call`, of which `torch.compile` guards the function alone, and not whose it is.
    """

    def __init__(self, module: nn.Module) -> None:
        self.previous = module.__dict__.get("forward")
        self.original = module.forward
        self.changes: list[Change] = []

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The changed forward."""
        call = self.original
        for change in self.changes:
            call = partial(change, call)
        return call(*args, **kwargs)


def chain_of(module: nn.Module) -> Chain | None:
    """What stands in for the `forward` of a module now, if something does."""
    found = getattr(module.__dict__.get("forward"), "__self__", None)
    return found if isinstance(found, Chain) else None


@contextmanager
def standing(module: nn.Module) -> Iterator[None]:
    """While it lasts, a module that is none of the host's has its place in it, so that hooks on it are called."""
    if not isinstance(module, Standing):
        yield
        return
    override = Override(module, lambda original, *args, **kwargs: original(*args, **kwargs))
    try:
        yield
    finally:
        override.remove()


class Override:
    """`forward` of one instance changed by a function that gets the forward before it first; taken off in any order.

    first: whether the change stands next to the original, inside of those that are there already.

    >>> double, x = nn.Identity(), 3
    >>> override = Override(double, lambda original, x: 2 * original(x))
    >>> double(x)
    6
    >>> override.remove()
    >>> double(x), "forward" in vars(double)
    (3, False)
    """

    def __init__(self, module: nn.Module, change: Change, *, first: bool = False) -> None:
        self.module = module
        self.change = change
        chain = chain_of(module)
        if chain is None:
            chain = Chain(module)
            module.__dict__["forward"] = chain.call
            if isinstance(module, Standing):
                module.begin()
        self.chain = chain
        chain.changes.insert(0 if first else len(chain.changes), change)

    def remove(self) -> None:
        """Takes the change off; with the last one, the module has its own forward back."""
        self.chain.changes.remove(self.change)
        if self.chain.changes:
            return
        if isinstance(self.module, Standing):
            self.module.end()
        if self.chain.previous is None:
            del self.module.__dict__["forward"]
        else:
            self.module.__dict__["forward"] = self.chain.previous
