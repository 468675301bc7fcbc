"""A contraction over very few numbers, written out term by term; only what comes in is kept for backward.

A batched product of 2 x 2 matrices spends its time on moving numbers; as sums of elementwise products none is moved.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def unrolled(matrices: Tensor, x: Tensor, at: int) -> Tensor:
    """Matrices [p, q, ...] applied along one axis of x [..., q, ...]: the axis `at`, counted from the end, becomes [p].

    The further axes of the matrices are the axes of x that stand behind its tokens, without that one.

    >>> quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    >>> unrolled(quarter, torch.tensor([[3.0, 4.0]]), -1)
    tensor([[-4.,  3.]])
    """
    if torch.compiler.is_compiling():  # which fuses the products itself
        parts = x.unbind(at)
        rows = [sum(factor * part for factor, part in zip(row, parts, strict=True)) for row in matrices.unbind()]
        return torch.stack(rows, at)
    made: Tensor = _Unrolled.apply(matrices, x, at)  # type: ignore[no-untyped-call]  # torch's apply has no types
    return made


class _Unrolled(torch.autograd.Function):
    @staticmethod
    def forward(matrices: Tensor, x: Tensor, at: int) -> Tensor:
        shape = [*x.shape]
        shape[at] = matrices.shape[0]
        out = x.new_empty(shape, dtype=torch.promote_types(matrices.dtype, x.dtype))
        for row, target in zip(matrices, out.unbind(at), strict=True):
            first, *others = zip(row, x.unbind(at), strict=True)
            torch.mul(*first, out=target)
            for factor, part in others:
                target.addcmul_(factor, part)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.at = inputs[2]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        matrices, x = ctx.saved_tensors
        own, into = None, None
        if ctx.needs_input_grad[0]:
            parts, behind = x.unbind(ctx.at), matrices.dim() - 2
            rows = [
                torch.stack([(there * part).flatten(0, -behind - 1).sum(0) for part in parts])
                for there in grad.unbind(ctx.at)
            ]
            own = torch.stack(rows).to(matrices.dtype)
        if ctx.needs_input_grad[1]:
            into = unrolled(matrices.transpose(0, 1), grad, ctx.at).to(x.dtype)
        return own, into, None
