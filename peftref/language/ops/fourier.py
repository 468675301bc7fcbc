"""ifft2: the inverse Fourier transform of a matrix; fourier: of one with values at positions, applied to a vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.op import FIRST, Op, Shape
from peftref.language.rules import entries, matrix

if TYPE_CHECKING:
    from torch import Tensor

    from peftref.language.op import Array

FAST = 400
"""Operations of a matrix product that take as long as one number of a complex fast Fourier transform, there and written (measured)."""


def _ifft2(matrix: Array) -> Array:
    import numpy as np

    n, m = matrix.shape
    left = np.exp(2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) / n
    right = np.exp(2j * np.pi * np.outer(np.arange(m), np.arange(m)) / m) / m
    return np.asarray((left @ matrix @ right).real)


def fourier(values: Tensor, at: Tensor, x: Tensor, n: int) -> Tensor:
    """The real part of the inverse Fourier transform of values [k] at the flat positions [k] of [n, m], applied to [..., m]."""
    import torch

    m = x.shape[-1]
    spectrum = values.new_zeros(n * m).index_add(0, at, values).view(n, m)
    made: Tensor = x @ torch.fft.ifft2(spectrum).real.mT
    return made


def _fourier(values: Array, at: Array, vector: Array, n: int) -> Array:
    import numpy as np

    spectrum = np.zeros(n * len(vector))
    np.add.at(spectrum, at.astype(int), values)
    return np.asarray(_ifft2(spectrum.reshape(n, -1)) @ vector)


def _flops(args: tuple[Shape, ...], out: Shape, length: int) -> int:
    """As its fast form takes."""
    values, _, vector = args
    return FAST * (vector[0] + out[0] + values[0])


OPS = (
    Op(
        name="ifft2", family="structure", about="real part of the inverse Fourier transform of a matrix in both axes",
        example="ifft2(B)", arity=(1, 1), rule=matrix, torch="torch.fft.ifft2({0}).real", oracle=_ifft2, linear=FIRST,
        vanishes=FIRST, latex=r"\operatorname{{Re}}\,\mathcal{{F}}^{{-1}}({0})",
    ),
    Op(
        name="fourier", family="contraction",
        about="ifft2 of the matrix with values at given positions, applied to a vector", example="fourier(l, at, h, n=d_model)",
        arity=(3, 3), rule=entries, options={"n": None}, positions=frozenset({1}), function=fourier, oracle=_fourier,
        linear=frozenset({0, 2}), vanishes=frozenset({0, 2}), flops=_flops, costly=True,
        latex=r"\operatorname{{Re}}\,\mathcal{{F}}^{{-1}}({0}) {2}",
    ),
)  # fmt: skip
