"""Contractions over very few numbers against torch's einsum, in values and in gradients, and where they are taken."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from peftref.design.load import load
from peftref.language.einsum import along_axis
from peftref.modules.compile.unrolled import unrolled
from peftref.report.code import code_of


@pytest.mark.parametrize(
    ("matrices", "x", "result", "at"),
    [("pqnk", "tnqk", "tnpk", -2), ("pq", "tsq", "tsp", -1), ("pqk", "tqk", "tpk", -2)],
)
@pytest.mark.parametrize(("p", "q"), [(2, 2), (3, 2), (1, 4)])
def test_it_is_the_contraction(matrices: str, x: str, result: str, at: int, p: int, q: int) -> None:
    sizes = {"p": p, "q": q, "n": 3, "k": 4, "t": 5, "s": 2}
    first, second = (
        torch.randn([sizes[letter] for letter in word], dtype=torch.float64, requires_grad=True)
        for word in (matrices, x)
    )
    torch.testing.assert_close(unrolled(first, second, at), torch.einsum(f"{matrices}, {x} -> {result}", first, second))

    def applied(first: Tensor, second: Tensor) -> Tensor:
        return unrolled(first, second, at)

    assert torch.autograd.gradcheck(applied, (first, second))
    assert torch.autograd.gradgradcheck(applied, (first, second))


def test_half_precision_meets_single() -> None:
    matrices, x = torch.randn(2, 2, 3), torch.randn(4, 2, 3).bfloat16().requires_grad_()
    out = unrolled(matrices, x, -2)
    torch.testing.assert_close(out, torch.einsum("pqk, tqk -> tpk", matrices, x.float()))
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("matrices", "x", "result"),
    [("npqk", "nqk", "nkp"), ("pq", "nqk", "npk"), ("npq", "nqk", "npk"), ("pqn", "qn", "n"), ("pqq", "q", "p")],
)
def test_what_moves_or_adds_axes_is_another_contraction(matrices: str, x: str, result: str) -> None:
    assert along_axis(matrices, x, result) is None


def test_a_rotation_of_pairs_is_written_out_and_blocks_of_many_are_not() -> None:
    assert "op.unrolled(" in code_of(load("road"), "bert-base")
    assert "op.unrolled(" not in code_of(load("oft"), "bert-base")


def test_it_compiles_whole() -> None:
    matrices, x = torch.randn(2, 2, 3, requires_grad=True), torch.randn(4, 2, 3)

    def squared(matrices: Tensor) -> Tensor:
        return unrolled(matrices, x, -2).square().sum()

    (eager,) = torch.autograd.grad(squared(matrices), matrices)
    (compiled,) = torch.autograd.grad(torch.compile(squared, fullgraph=True, backend="aot_eager")(matrices), matrices)
    torch.testing.assert_close(compiled, eager)
