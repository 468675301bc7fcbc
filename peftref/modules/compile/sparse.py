"""A matrix of few entries applied and never formed; its gradient is made at these entries alone.

Shapes are in torch's row layout. Half precision is computed in single precision. The products are custom operators, so that
`torch.compile` takes them as they are.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


def sparse(values: Tensor, at: Tensor, x: Tensor, n: int) -> Tensor:
    """Values [k] at the flat positions [k] of [n, m], zero elsewhere, applied to [..., m]; values at one position are added.

    >>> sparse(torch.tensor([2.0, 3.0]), torch.tensor([1, 4]), torch.tensor([[10.0, 20.0]]), 3)
    tensor([[40.,  0., 30.]])
    """
    precise = torch.promote_types(torch.promote_types(values.dtype, x.dtype), torch.float32)
    made: Tensor = _product(values.to(precise), at, x.reshape(-1, x.shape[-1]).to(precise), n)
    return made.view(*x.shape[:-1], n).to(x.dtype)


@torch.library.custom_op("peftref::sparse_product", mutates_args=())
def _product(values: Tensor, at: Tensor, x: Tensor, n: int) -> Tensor:
    return (_matrix(values, at, n, x.shape[1]) @ x.T.contiguous()).T.contiguous()


@_product.register_fake
def _(values: Tensor, at: Tensor, x: Tensor, n: int) -> Tensor:
    return x.new_empty(x.shape[0], n)


@torch.library.custom_op("peftref::sparse_gradient", mutates_args=())
def _gradient(grad: Tensor, at: Tensor, x: Tensor) -> Tensor:
    """The entries at some positions of grad.T @ x, for [tokens, n] and [tokens, m]."""
    order = at.argsort()
    pattern = _matrix(grad.new_zeros(at.shape), at, grad.shape[1], x.shape[1])
    found = torch.sparse.sampled_addmm(pattern, grad.T, x, beta=0.0).values()
    return torch.empty_like(found).index_copy_(0, order, found)


@_gradient.register_fake
def _(grad: Tensor, at: Tensor, x: Tensor) -> Tensor:
    return grad.new_empty(at.shape)


def _matrix(values: Tensor, at: Tensor, n: int, m: int) -> Tensor:
    """Values at flat positions as a matrix [n, m] in compressed rows."""
    order = at.argsort()
    ordered = at[order]
    starts = torch.searchsorted(ordered, torch.arange(0, n * m + 1, m, device=at.device))
    return torch.sparse_csr_tensor(starts, ordered % m, values[order], (n, m), check_invariants=False)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.n = inputs[3]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    values, at, x = ctx.saved_tensors
    m = x.shape[1]
    own = _gradient(grad, at, x) if ctx.needs_input_grad[0] else None
    turned = at % m * ctx.n + torch.div(at, m, rounding_mode="floor")
    into = _product(values, turned, grad, m) if ctx.needs_input_grad[2] else None
    return own, None, into, None


_product.register_autograd(_backward, setup_context=_keep)
