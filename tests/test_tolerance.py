"""What two right computations may differ by is enough for every order of summing, and too little for a wrong formula."""

from __future__ import annotations

import doctest
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tests import double, tolerance
from tests.double import in_double
from tests.tolerance import close, rounding

TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("module", [tolerance, double])
def test_examples(module: object) -> None:
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0  # type: ignore[arg-type]


def one_by_one(terms: torch.Tensor) -> torch.Tensor:
    """The sum of the last axis in its order, every partial sum rounded."""
    total = torch.zeros_like(terms[..., 0])
    for each in terms.unbind(-1):
        total = total + each
    return total


def in_blocks(terms: torch.Tensor, block: int) -> torch.Tensor:
    """The sum of the last axis as vector units have it: some beside each other, and these one by one."""
    whole = F.pad(terms, (0, -terms.shape[-1] % block)).unflatten(-1, (-1, block))
    return one_by_one(one_by_one(whole.transpose(-1, -2)))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(TYPES), st.integers(1, 128), st.sampled_from([1, 2, 4, 8, 16]), st.integers(0, 2**32))
def test_every_order_of_a_sum_is_near(dtype: torch.dtype, length: int, block: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    terms = torch.rand(50, length, generator=generator, dtype=torch.double).to(dtype)
    near, ways = {"terms": length, "sums": 1}, [one_by_one(terms), one_by_one(terms.flip(-1)), in_blocks(terms, block)]
    for way in ways:
        close(way, ways[0], **near)
        close(way.double(), terms.double().sum(-1), inside=dtype, **near)


def layer(x: torch.Tensor, weights: list[torch.Tensor], scale: float, eps: float, order: torch.Tensor) -> torch.Tensor:
    """A small layer (norm, LoRA in attention, a feed-forward part), its sums over the width in some order."""
    query, key, a, b, up, down = weights
    for _ in range(2):
        normed = F.layer_norm(x, x.shape[-1:], eps=eps)[:, order]
        q = normed @ query[:, order].T + scale * (normed @ a[:, order].T) @ b.T
        seen = (q @ (normed @ key[:, order].T).T / math.sqrt(x.shape[-1])).softmax(-1, dtype=torch.float32).to(x.dtype)
        x = x + seen @ x
        x = x + F.gelu(x[:, order] @ up[:, order].T) @ down.T
    return x


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([torch.float64, torch.float32]), st.integers(0, 2**32))
def test_another_order_is_near_and_another_formula_is_not(dtype: torch.dtype, seed: int) -> None:
    """The mistakes that are made: rsLoRA's scale for LoRA's, another epsilon in a norm, one number of a weight left out."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((32, 32), (32, 32), (4, 32), (32, 4), (48, 32), (32, 48))
    weights = [torch.randn(shape, generator=generator, dtype=torch.double).to(dtype) / 6 for shape in shapes]
    x, other = torch.randn(5, 32, generator=generator, dtype=torch.double).to(dtype), torch.randperm(32)
    dropped = [*weights[:3], weights[3].clone(), *weights[4:]]
    dropped[3][0, 0] = 0
    with in_double() if dtype == torch.double else torch.no_grad():
        expected = layer(x, weights, 2.0, 1e-5, torch.arange(32))
        close(layer(x, weights, 2.0, 1e-5, other), expected)
        wrong = [layer(x, weights, 4.0, 1e-5, other)]
        if dtype == torch.double:  # what is told apart in double precision only
            wrong += [layer(x, dropped, 2.0, 1e-5, other), layer(x, weights, 2.0, 1e-6, other)]
    for each in wrong:
        assert (each - expected).abs().max() > 10 * rounding(dtype) * max(1.0, float(expected.abs().max()))
        with pytest.raises(AssertionError, match="not close"):
            close(each, expected)


def test_single_precision_inside_is_told_and_found() -> None:
    """A host that has its softmax in single precision is off by what single precision allows, and in double it is not."""
    torch.manual_seed(0)
    x = torch.randn(4, 16, dtype=torch.double)
    exact, through = x.softmax(-1), x.softmax(-1, dtype=torch.float32).double()
    close(through, exact, inside=torch.float32)
    with pytest.raises(AssertionError, match="not close"):
        close(through, exact)
    with in_double():
        close(x.softmax(-1, dtype=torch.float32), exact)
        close(x.float().softmax(-1), exact)


def test_types_shapes_and_whole_numbers_are_exact() -> None:
    close(torch.arange(3), torch.arange(3))
    for other in (torch.arange(1, 4), torch.arange(3.0), torch.arange(4)):
        with pytest.raises(AssertionError):
            close(other, torch.arange(3))
    close(torch.tensor([1.0, float("inf")]), torch.tensor([1.0, float("inf")]))
    with pytest.raises(AssertionError):
        close(torch.tensor([1.0, float("nan")]), torch.tensor([1.0, 1.0]))
