"""Products with matrices of few entries against the matrices themselves, in values and gradients, plain and compiled."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from peftref.language.ops.scatter import scatter
from peftref.modules.compile.sparse import sparse


@pytest.mark.parametrize("positions", [[0, 3, 3, 47, 9, 20], [40, 1, 17], []])
def test_it_is_the_product(positions: list[int]) -> None:
    at = torch.tensor(positions, dtype=torch.int64)
    values = torch.randn(len(positions), dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(sparse(values, at, x, 6), x @ scatter(values, at, 6, 8).T)

    def applied(values: Tensor, x: Tensor) -> Tensor:
        return sparse(values, at, x, 6)

    assert torch.autograd.gradcheck(applied, (values, x))


def test_only_the_entries_get_a_gradient_and_nothing_dense_is_kept() -> None:
    at, values, x = torch.arange(0, 4096, 64), torch.randn(64, requires_grad=True), torch.randn(5, 64)
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = sparse(values, at, x, 64)
    assert max(kept) == x.numel()
    out.square().sum().backward()
    dense = scatter(values.detach(), at, 64, 64).requires_grad_()
    (x @ dense.T).square().sum().backward()
    assert values.grad is not None
    assert dense.grad is not None
    torch.testing.assert_close(values.grad, dense.grad.view(-1)[at])


def test_it_compiles_whole_and_half_precision_comes_out_as_it_went_in() -> None:
    at, values, x = torch.tensor([5, 1]), torch.randn(2, requires_grad=True), torch.randn(3, 4)

    def squared(values: Tensor) -> Tensor:
        return sparse(values, at, x, 4).square().sum()

    (eager,) = torch.autograd.grad(squared(values), values)
    (compiled,) = torch.autograd.grad(torch.compile(squared, fullgraph=True, backend="aot_eager")(values), values)
    torch.testing.assert_close(compiled, eager)
    assert sparse(values, at, x.bfloat16(), 4).dtype == torch.bfloat16
