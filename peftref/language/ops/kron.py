"""kron: the Kronecker product."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.kind import Kind, KindError, widest
from peftref.language.op import BOTH, Axis, Op

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from peftref.language.op import Array


def rule(left: Kind, right: Kind) -> Kind:
    """[a, b] and [c, d] give [a c, b d]; stacks of equal length give a stack."""
    if len(left.dims) < 2 or len(right.dims) != len(left.dims) or left.dims[:-2] != right.dims[:-2]:
        raise KindError(f"kron needs two matrices, or two equal stacks of them, not {left.show()} and {right.show()}")
    a, b = left.dims[-2:]
    c, d = right.dims[-2:]
    return Kind((*left.dims[:-2], a * c, b * d), widest((left, right)))


def kron(a: Tensor, b: Tensor) -> Tensor:
    """[..., a, b] and [..., c, d] to [..., a c, b d]."""
    product = a[..., :, None, :, None] * b[..., None, :, None, :]
    return product.reshape(*product.shape[:-4], a.shape[-2] * b.shape[-2], a.shape[-1] * b.shape[-1])


def _oracle(a: Array, b: Array) -> Array:
    import numpy as np

    return np.stack([_oracle(x, y) for x, y in zip(a, b, strict=True)]) if a.ndim > 2 else np.asarray(np.kron(a, b))


def _contraction(
    equal: Callable[[Axis, Axis], None], left: tuple[Axis, ...], right: tuple[Axis, ...]
) -> tuple[Axis, ...]:
    for one, other in zip(left[:-2], right[:-2], strict=True):
        equal(one, other)
    return (*left[:-2], (*left[-2], *right[-2]), (*left[-1], *right[-1]))


OPS = (
    Op(
        name="kron", family="structure", about="Kronecker product; of two stacks, one by one", example="kron(S, T)",
        arity=(2, 2), rule=rule, function=kron, oracle=_oracle, linear=BOTH, vanishes=BOTH, identity=True,
        contraction=_contraction, costly=True, latex=r"{0} \otimes {1}",
    ),
)  # fmt: skip
