"""shift: numbers moved along the first axis, in a circle. An op as somebody outside writes it: this one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.kind import Kind, KindError
from peftref.language.op import FIRST, Op, Shape
from peftref.language.size import Size

if TYPE_CHECKING:
    from torch import Tensor

    from peftref.language.op import Array


def rule(kind: Kind, by: Size) -> Kind:
    """The shape stays."""
    if not kind.dims:
        raise KindError("shift needs an axis, and this is a number", "shift a vector")
    return kind


def shift(value: Tensor, by: int, axes: int) -> Tensor:
    """[..., *shape] with what stands at i moved to i + by along the first of some axes."""
    import torch

    return torch.roll(value, by, -axes)


def _oracle(value: Array, by: int) -> Array:
    import numpy as np

    result = np.zeros_like(value)
    for i, each in enumerate(value):
        result[(i + by) % len(value)] = each
    return result


def _flops(args: tuple[Shape, ...], out: Shape, length: int) -> int:
    """As if each number took one."""
    return out[0]


OPS = (
    Op(
        name="shift", family="structure", about="numbers moved along the first axis, in a circle", example="shift(h, by=1)",
        arity=(1, 1), rule=rule, options={"by": None}, torch="op.shift({0}, {by}, {axes})", function=shift, oracle=_oracle,
        linear=FIRST, vanishes=FIRST, columns=True, flops=_flops, latex=r"\operatorname{{shift}}_{{{by}}}({0})",
    ),
)  # fmt: skip
