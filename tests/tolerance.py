"""How near two computations of the same thing come, on whatever processors they were made.

A sum of n products in a floating-point type is off by at most n u of the sum of their sizes, u being half the distance from 1 to the
next number (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1); in which order it is summed, and with which
vector instructions, decides where in that range it falls. Two computations may so differ by twice as much, once for each layer that
hands its error on.
"""

from __future__ import annotations

import torch


def rounding(dtype: torch.dtype, terms: int, layers: int = 1) -> float:
    """The largest relative difference of two computations in a type, through layers whose longest sums have so many terms.

    >>> rounding(torch.float32, terms=24, layers=2) < 1e-5 < rounding(torch.bfloat16, terms=24, layers=2)
    True
    """
    return 2 * layers * terms * torch.finfo(dtype).eps / 2
