"""Fast transforms against the matrices that they stand for, in values and in gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from peftref.language.ops.circulant import circulant
from peftref.language.ops.scatter import scatter
from peftref.modules.compile.fourier import correlate, fourier


@pytest.mark.parametrize("b", [1, 4, 5])
def test_correlation_is_that_of_transposed_circulant_blocks(b: int) -> None:
    columns = torch.randn(2, 3, b, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 7, 3 * b, dtype=torch.float64, requires_grad=True)
    blocks = circulant(columns).mT.permute(0, 2, 1, 3).reshape(2 * b, 3 * b)
    torch.testing.assert_close(correlate(columns, x), x @ blocks.T)
    assert torch.autograd.gradcheck(correlate, (columns, x))


@pytest.mark.parametrize("n", [5, 6])
def test_a_few_entries_of_a_spectrum(n: int) -> None:
    at = torch.tensor([0, 3, 3, n * 8 - 1, 9])
    values = torch.randn(5, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    matrix = torch.fft.ifft2(scatter(values, at, n, 8)).real
    torch.testing.assert_close(fourier(values, at, x, n), x @ matrix.T)

    def applied(values: Tensor, x: Tensor) -> Tensor:
        return fourier(values, at, x, n)

    assert torch.autograd.gradcheck(applied, (values, x))


def test_half_precision_comes_out_as_it_went_in() -> None:
    columns, x = torch.randn(2, 2, 4).bfloat16(), torch.randn(3, 8).bfloat16()
    out = correlate(columns, x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), correlate(columns.float(), x.float()), rtol=0.02, atol=0.05)
