"""A leaf that keeps its value, and whose gradient becomes what a function makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def steered(leaf: Tensor, turn: Callable[[Tensor], Tensor]) -> Tensor:
    """The leaf itself; where it is trained, its gradient is turned on its way back.

    >>> leaf = torch.ones(2, requires_grad=True)
    >>> steered(leaf, lambda gradient: 3 * gradient).sum().backward()
    >>> leaf.grad
    tensor([3., 3.])
    """
    if not (leaf.requires_grad and torch.is_grad_enabled()):
        return leaf
    made: Tensor = _Steered.apply(leaf, turn)  # type: ignore[no-untyped-call]  # torch's apply has no types
    return made


class _Steered(torch.autograd.Function):
    """The value as it is; the gradient through a function."""

    @staticmethod
    def forward(leaf: Tensor, turn: Callable[[Tensor], Tensor]) -> Tensor:
        return leaf.view_as(leaf)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.turn = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.turn(grad), None
