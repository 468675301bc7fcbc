"""Hosts whose layers hold [tokens, batch, ...]: what a module of theirs is given and gives, turned to [batch, tokens, ...] and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

Call = Callable[..., Any]


def turned(value: Any) -> Any:
    """A tensor with its first two axes exchanged, or each one of a tuple or list; whatever has not two axes as it is.

    >>> import torch
    >>> [tuple(each.shape) for each in turned((torch.ones(7, 2, 4), torch.ones(3)))]
    [(2, 7, 4), (3,)]
    """
    if isinstance(value, Tensor):
        return value.transpose(0, 1) if value.dim() > 1 else value
    return type(value)(map(turned, value)) if type(value) in (tuple, list) else value


def turning(change: Call, original: Call, *args: Any, **kwargs: Any) -> Any:
    """A call with a change that sees every value turned, while the host sees none so; what it leaves alone is the host's own."""

    def own(*given: Any, **named: Any) -> Any:
        return turned(original(*turned(given), **{name: turned(value) for name, value in named.items()}))

    return turned(change(own, *turned(args), **{name: turned(value) for name, value in kwargs.items()}))
