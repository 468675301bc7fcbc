"""skew: a skew matrix of the numbers above its diagonal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.kind import Kind, KindError
from peftref.language.op import FIRST, Op
from peftref.language.size import Size

if TYPE_CHECKING:
    from torch import Tensor

    from peftref.language.op import Array


def rule(kind: Kind, n: Size) -> Kind:
    """The numbers above the diagonal [..., n (n - 1) / 2] give the skew matrix [..., n, n]."""
    above = n * (n - Size.of(1)) / Size.of(2)
    if not kind.dims or kind.dims[-1] != above:
        clash = (kind.dims[-1], above) if kind.dims else ()
        raise KindError(f"skew of n = {n.show()} needs {above.show()} numbers, and this is {kind.show()}", None, clash)
    return Kind((*kind.dims[:-1], n, n), kind.per)


def skew(above: Tensor, n: int) -> Tensor:
    """The numbers above the diagonal [..., n (n - 1) / 2], row by row, to skew [..., n, n]."""
    import torch

    upper = above.new_zeros(*above.shape[:-1], n, n)
    upper[(..., *torch.triu_indices(n, n, 1, device=above.device))] = above
    return upper - upper.mT


def _oracle(above: Array, n: int) -> Array:
    import numpy as np

    if above.ndim > 1:
        return np.stack([_oracle(each, n) for each in above])
    result, numbers = np.zeros((n, n)), iter(above)
    for i in range(n):
        for j in range(i + 1, n):
            result[i, j] = next(numbers)
            result[j, i] = -result[i, j]
    return result


OPS = (
    Op(
        name="skew", family="orthogonal",
        about="skew matrix of the numbers above its diagonal, row by row; each of a stack", example="skew(u, n=r)",
        arity=(1, 1), rule=rule, options={"n": None}, function=skew, oracle=_oracle, linear=FIRST, vanishes=FIRST,
        costly=True, latex=r"\operatorname{{skew}}({0})",
    ),
)  # fmt: skip
