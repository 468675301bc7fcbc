"""Circulant and Fourier matrices applied by fast transforms and never formed; only what comes in is kept for backward.

Shapes are in torch's row layout. Half precision is computed in single precision, which the transforms need.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fft import fft, ifft, irfft, rfft


def correlate(columns: Tensor, x: Tensor) -> Tensor:
    """Columns [m, n, b] of circulant matrices, each transposed, applied to [..., n b]: [..., m b].

    >>> columns, x = torch.randn(2, 3, 4), torch.randn(5, 12)
    >>> correlate(columns, x).shape
    torch.Size([5, 8])
    """
    made: Tensor = _Correlate.apply(columns, x)  # type: ignore[no-untyped-call]  # torch's apply has no types
    return made


def fourier(values: Tensor, at: Tensor, x: Tensor, n: int) -> Tensor:
    """The real part of the inverse Fourier transform of values [k] at the flat positions [k] of [n, m], applied to [..., m].

    >>> values, at, x = torch.randn(3), torch.tensor([0, 7, 11]), torch.randn(5, 4)
    >>> fourier(values, at, x, 6).shape
    torch.Size([5, 6])
    """
    made: Tensor = _Fourier.apply(values, at, x, n)  # type: ignore[no-untyped-call]  # torch's apply has no types
    return made


class _Correlate(torch.autograd.Function):
    """By the correlation theorem: the transform of the result is the conjugate of the columns' times that of the input."""

    @staticmethod
    def forward(columns: Tensor, x: Tensor) -> Tensor:
        b = columns.shape[-1]
        return _whole(torch.einsum("mnf, tnf -> tmf", rfft(_precise(columns)).conj(), _blocks(x, b)), b, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        columns, x = ctx.saved_tensors
        b, own, into = columns.shape[-1], None, None
        there = _blocks(grad, b)
        if ctx.needs_input_grad[0]:
            product = torch.einsum("tmf, tnf -> mnf", there.conj(), _blocks(x, b))
            own = irfft(product, n=b).to(columns.dtype)
        if ctx.needs_input_grad[1]:
            into = _whole(torch.einsum("mnf, tmf -> tnf", rfft(_precise(columns)), there), b, x)
        return own, into


def _blocks(x: Tensor, b: int) -> Tensor:
    """[..., n b] to the transforms [tokens, n, frequencies] of its blocks."""
    found: Tensor = rfft(_precise(x).reshape(-1, x.shape[-1] // b, b))
    return found


def _whole(transforms: Tensor, b: int, like: Tensor) -> Tensor:
    found: Tensor = irfft(transforms, n=b)
    return found.reshape(*like.shape[:-1], -1).to(like.dtype)


class _Fourier(torch.autograd.Function):
    """One transform of the input, a few products, one transform back; tokens stand in the last axis while it lasts."""

    @staticmethod
    def forward(values: Tensor, at: Tensor, x: Tensor, n: int) -> Tensor:
        m = x.shape[-1]
        entering = ifft(_columns(x), dim=0)[at % m] * _precise(values)[:, None]
        leaving = entering.new_zeros(n, entering.shape[1]).index_add_(0, at // m, entering)
        found: Tensor = ifft(leaving, dim=0).real
        return found.T.reshape(*x.shape[:-1], n).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.n = inputs[3]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, at, x = ctx.saved_tensors
        m, own, into = x.shape[-1], None, None
        there = fft(_columns(grad), dim=0)[at // m] / ctx.n
        if ctx.needs_input_grad[0]:
            entering = ifft(_columns(x), dim=0)[at % m]
            own = (torch.view_as_real(entering) * torch.view_as_real(there)).sum((1, 2)).to(values.dtype)
        if ctx.needs_input_grad[2]:
            back = there.new_zeros(m, there.shape[1]).index_add_(0, at % m, there * _precise(values)[:, None])
            into = (fft(back, dim=0).real / m).T.reshape(x.shape).to(x.dtype)
        return own, None, into, None


def _columns(x: Tensor) -> Tensor:
    """[..., m] to [m, tokens]."""
    return _precise(x).reshape(-1, x.shape[-1]).T.contiguous()


def _precise(value: Tensor) -> Tensor:
    return value if value.dtype == torch.float64 else value.float()
