"""Hosts whose layers hold [tokens, batch, ...]: what a module of theirs is given and gives, turned to [batch, tokens, ...] and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

Call = Callable[..., Any]


def turned(value: Tensor) -> Tensor:
    """A tensor with its first two axes exchanged; one that has not two as it is.

    >>> import torch
    >>> turned(torch.ones(7, 2, 4)).shape, turned(torch.ones(3)).shape
    (torch.Size([2, 7, 4]), torch.Size([3]))
    """
    return value.transpose(0, 1) if value.dim() > 1 else value


def turning(change: Call, original: Call, *args: Any, **kwargs: Any) -> Any:
    """A call with a change that sees every tensor turned, while the host sees none so; what it leaves alone is the host's own.

    What is changed lies in memory as the host has it, which may look at it in other shapes.
    """
    known: list[tuple[Tensor, Tensor]] = []

    def see(value: Tensor) -> Tensor:
        known.append((turned(value), value))
        return known[-1][0]

    def back(value: Tensor) -> Tensor:
        for seen, own in known:
            if seen is value:
                return own
        return turned(value).contiguous()

    def own_call(*given: Any, **named: Any) -> Any:
        return _each(original(*_each(given, back), **_each(named, back)), see)

    return _each(change(own_call, *_each(args, see), **_each(kwargs, see)), back)


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The tensors of a value changed: itself, or those in a tuple, a list or a dictionary."""
    if isinstance(value, Tensor):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)(_each(each, change) for each in value)
    return {name: _each(each, change) for name, each in value.items()} if type(value) is dict else value
