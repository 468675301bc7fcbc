"""butterfly: a product of block-diagonal matrices, each on blocks that stand further apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from peftref.core.problem import fail
from peftref.language.kind import Kind, KindError
from peftref.language.op import Op, Shape
from peftref.language.size import Size

if TYPE_CHECKING:
    from torch import Tensor

    from peftref.language.op import Array


def rule(blocks: Kind, vector: Kind | None = None, back: Size | None = None) -> Kind:
    """Blocks [m, n, b, b] give the product of m block-diagonal matrices [n b, n b], each in another order of its axes.

    With a second operand, a vector [n b], that matrix applied to it.
    """
    if len(blocks.dims) != 4 or blocks.dims[2] != blocks.dims[3]:
        raise KindError(f"butterfly needs blocks [m, n, b, b], and this is {blocks.show()}")
    width = blocks.dims[1] * blocks.dims[2]
    if vector is None:
        return Kind((width, width), blocks.per)
    if vector.dims != (width,):
        raise KindError(f"butterfly of {blocks.show()} acts on {width.show()} numbers, not on {vector.show()}")
    return vector


def butterfly(blocks: Tensor, x: Tensor | None = None, back: int = 0) -> Tensor:
    """[m, n, b, b] applied to [..., n b], or as [n b, n b]: the j-th blocks act on halves of blocks that stand 2^j halves apart."""
    import torch

    m, n, b, _ = blocks.shape
    if b % 2 or n % (1 << m - 1):
        text = (
            f"butterfly of {m} stages needs blocks of an even size, a multiple of {1 << m - 1} of them, not {n} of {b}"
        )
        raise fail("indivisible", text, hint="choose sizes that divide")
    if x is None:
        return butterfly(blocks, torch.eye(n * b, dtype=blocks.dtype, device=blocks.device), back).mT
    for j in reversed(range(m)) if back else range(m):
        stage, apart = blocks[j].mT if back else blocks[j], 1 << j
        near = x.reshape(*x.shape[:-1], -1, 2, apart, b // 2).transpose(-3, -2).reshape(*x.shape[:-1], n, b)
        turned = torch.einsum("nij, ...nj -> ...ni", stage, near)
        x = turned.reshape(*x.shape[:-1], -1, apart, 2, b // 2).transpose(-3, -2).reshape(x.shape)
    return x


def _oracle(blocks: Array, vector: Array | None = None, back: int = 0) -> Array:
    """Each stage moves the halves of the blocks together, one by one, acts, and moves them back."""
    import numpy as np

    m, n, b, _ = blocks.shape
    result = np.eye(n * b)
    for j in range(m):
        move, acts, half, to = np.zeros((n * b, n * b)), np.zeros((n * b, n * b)), b // 2, 0
        for first in range(0, 2 * n, 2 ** (j + 1)):
            for odd in (0, 1):
                for piece in range(first + odd, first + 2 ** (j + 1), 2):
                    for k in range(half):
                        move[to, piece * half + k] = 1
                        to += 1
        for i in range(n):
            acts[i * b : (i + 1) * b, i * b : (i + 1) * b] = blocks[j, i]
        result = move @ acts @ move.T @ result
    result = result.T if back else result
    return result if vector is None else result @ vector


def _flops(args: tuple[Shape, ...], out: Shape, length: int) -> int:
    return 2 * args[0][0] * args[0][-1] * math.prod(out)


OPS = (
    Op(
        name="butterfly", family="orthogonal",
        about=(
            "product of m block-diagonal matrices of blocks [m, n, b, b], the j-th on halves of blocks that stand 2^j halves "
            "apart; or applied to a vector; transposed with back=1"
        ),
        example="butterfly(K)", arity=(1, 2), rule=rule, options={"back": 0}, function=butterfly, oracle=_oracle,
        linear=frozenset({1}), vanishes=frozenset({1}), identity=True, flops=_flops, costly=True,
        latex=r"\operatorname{{B}}({0})",
    ),
)  # fmt: skip
