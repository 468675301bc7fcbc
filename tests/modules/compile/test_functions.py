"""The faster form of an op is its function in another order: the same value, the same gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from peftref.language.ops import TABLE
from peftref.modules.compile.functions import FASTER, functions


def _turn(gradient: Tensor) -> Tensor:
    return 2 * gradient + 1


AT = torch.tensor([0, 7, 11, 3])
OPERANDS: dict[str, tuple[list[tuple[int, ...]], Callable[..., tuple[object, ...]]]] = {
    "correlate": ([(2, 3, 4), (5, 12)], lambda columns, x: (columns, x)),
    "fourier": ([(4,), (5, 4)], lambda values, x: (values, AT, x, 6)),
    "sparse": ([(4,), (5, 4)], lambda values, x: (values, AT, x, 6)),
    "steered": ([(3, 4)], lambda leaf: (leaf, _turn)),
}


@pytest.mark.parametrize("name", FASTER)
def test_a_faster_form_is_the_same(name: str) -> None:
    shapes, arguments = OPERANDS[name]
    found = []
    for form in (TABLE[name].function, FASTER[name]):
        generator = torch.Generator().manual_seed(0)
        given = [torch.randn(shape, generator=generator, dtype=torch.double).requires_grad_() for shape in shapes]
        assert form is not None
        value = form(*arguments(*given))
        weights = torch.randn(value.shape, generator=generator, dtype=torch.double)
        (value * weights).sum().backward()
        found.append([value, *(each.grad for each in given)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_source_calls_every_function_and_the_faster_form_where_there_is_one() -> None:
    made = functions()
    assert made.kron is TABLE["kron"].function
    assert made.fourier is FASTER["fourier"] is not TABLE["fourier"].function


@pytest.mark.parametrize("name", ["kron", "householder", "circulant", "layer_norm", "butterfly", "top_softmax"])
def test_a_function_that_imports_when_it_runs_is_compiled_in_one_graph(name: str) -> None:
    operands = {
        "kron": (torch.randn(2, 2), torch.randn(2, 3)),
        "butterfly": (torch.randn(2, 2, 4, 4), torch.randn(3, 8)),
        "layer_norm": (torch.randn(3, 4), torch.ones(4)),
        "top_softmax": (torch.randn(3, 4), 2),
    }.get(name, (torch.randn(2, 4),))
    function = TABLE[name].function
    assert function is not None
    compiled = torch.compile(function, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*operands), function(*operands))
