"""How near two computations of the same thing come, on whatever processors they were made.

A rounding changes a number by at most u of its size, u being half the distance from 1 to the next number of the type. A result that is
reached by n additions and multiplications is off by at most n u of the sizes of what was summed (Higham, *Accuracy and Stability of
Numerical Algorithms*, 2002, section 3.1), and by more than t sqrt(n) u only with a probability of 2 n exp(-t^2 / 2) (Higham and Mary,
*A new approach to probabilistic rounding error analysis*, 2019): below 1e-10 for t = 8 and a million steps. Where in that range it falls
is decided by the order of a sum, which vector instructions, threads and block sizes change. So this is what two right computations
may differ by, and nothing that one machine happens to give.

What is compared is a tensor as a whole: the sizes that are summed are those of its largest number, or of the activations of a host,
which are of order one. `gain` says by how much a computation multiplies an error beyond that: the condition of a system that it
solves, or the sharpness of an activation in few bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

TERMS, SUMS = 64, 16
"""The longest sums of the tiny hosts (their width), and how many follow each other in a pass through two layers and back."""
LIKELY = 8.0
"""The t above."""
FUNCTIONS = 4
"""Roundings by which exp, tanh, erf or a root of one library are off from those of another."""


def rounding(
    dtype: torch.dtype, *, terms: int = TERMS, sums: int = SUMS, gain: float = 1.0, elsewhere: bool = False
) -> float:
    """The largest difference of two computations in a type, as a share of the largest number.

    `terms` is the length of the longest sums, `sums` how many of them follow each other, and `elsewhere` says that one of the two was
    computed before, with other libraries.

    >>> rounding(torch.float64) < 1e-12 < rounding(torch.float32) < 1e-4 < rounding(torch.bfloat16)
    True
    >>> rounding(torch.float32, terms=4, sums=1) < rounding(torch.float32, terms=4, sums=1, elsewhere=True) < 2e-6
    True
    """
    steps = sums * (terms + (FUNCTIONS if elsewhere else 0))
    return 2 * gain * min(steps, LIKELY * math.sqrt(steps)) * torch.finfo(dtype).eps / 2


def close(
    actual: torch.Tensor,
    expected: torch.Tensor,
    *,
    terms: int = TERMS,
    sums: int = SUMS,
    gain: float = 1.0,
    elsewhere: bool = False,
    inside: torch.dtype | None = None,
    msg: str | Callable[[str], str] | None = None,
) -> None:
    """Holds two computations of the same tensor against each other: same type, same shape, and as near as `rounding` says.

    `inside` is a type in which a part was computed, where that is less precise than the tensors' own.

    >>> x = torch.linspace(0, 1, 9)
    >>> close(x.cumsum(0), x.flip(0).cumsum(0).flip(0)[0] - x.flip(0).cumsum(0).flip(0) + x)
    >>> close(x, x + 1e-3)
    Traceback (most recent call last):
    AssertionError: Tensor-likes are not close!
    ...
    """
    bound = 0.0
    if expected.is_floating_point() or expected.is_complex():
        types = [each.abs().dtype for each in (actual, expected)] + ([inside] if inside else [])
        coarse = max(types, key=lambda each: torch.finfo(each).eps)
        finite = expected.detach()[expected.isfinite()].abs()
        scale = max(1.0, float(finite.max()) if finite.numel() else 1.0)
        bound = scale * rounding(coarse, terms=terms, sums=sums, gain=gain, elsewhere=elsewhere)
    torch.testing.assert_close(actual, expected, rtol=0, atol=bound, msg=msg)
