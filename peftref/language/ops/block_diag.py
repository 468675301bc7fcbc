"""block_diag: a block-diagonal matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.kind import Kind, KindError
from peftref.language.op import FIRST, Axis, Op

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from peftref.language.op import Array


def rule(kind: Kind) -> Kind:
    """A stack [n, a, b] gives [n a, n b]."""
    if len(kind.dims) != 3:
        raise KindError(f"block_diag needs a stack of matrices [n, a, b], and this is {kind.show()}")
    n, a, b = kind.dims
    return Kind((n * a, n * b), kind.per)


def block_diag(stack: Tensor) -> Tensor:
    """[n, a, b] to [n a, n b]."""
    import torch

    n, a, b = stack.shape
    eye = torch.eye(n, dtype=stack.dtype, device=stack.device)
    return (eye[:, None, :, None] * stack[:, :, None, :]).reshape(n * a, n * b)


def _oracle(stack: Array) -> Array:
    import numpy as np

    n, a, b = stack.shape
    result = np.zeros((n * a, n * b))
    for i, block in enumerate(stack):
        result[i * a : (i + 1) * a, i * b : (i + 1) * b] = block
    return result


def _contraction(equal: Callable[[Axis, Axis], None], axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    n, a, b = axes
    return ((*n, *a), (*n, *b))


OPS = (
    Op(
        name="block_diag", family="structure", about="block-diagonal matrix of a stack [n, a, b]", example="block_diag(S)",
        arity=(1, 1), rule=rule, function=block_diag, oracle=_oracle, linear=FIRST, vanishes=FIRST, identity=True,
        contraction=_contraction, costly=True, latex=r"\operatorname{{blockdiag}}({0})",
    ),
)  # fmt: skip
