"""The arithmetic of numbers: sums, products, powers, roots."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from peftref.language.op import BOTH, FIRST, Axis, Op
from peftref.language.rules import elementwise

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def sqrt(value: Tensor | float) -> Tensor | float:
    """The square root of a tensor or a number."""
    import torch

    return torch.sqrt(value) if isinstance(value, torch.Tensor) else math.sqrt(value)


def _side_by_side(
    equal: Callable[[Axis, Axis], None], left: tuple[Axis, ...], right: tuple[Axis, ...]
) -> tuple[Axis, ...]:
    """The axes of an elementwise product: the shorter operand stands on the first axes of the longer one."""
    long, short = sorted((left, right), key=len, reverse=True)
    for one, other in zip(long, short, strict=False):
        equal(one, other)
    return long


def _itself(equal: Callable[[Axis, Axis], None], axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    return axes


OPS = (
    Op(
        name="add", symbol="+", family="arithmetic", about="sum", example="h + beta",
        arity=(2, 2), rule=elementwise, torch="{0} + {1}", oracle="{0} + {1}", elementwise=True, additive=True,
    ),
    Op(
        name="sub", symbol="-", family="arithmetic", about="difference", example="h - beta",
        arity=(2, 2), rule=elementwise, torch="{0} - {1}", oracle="{0} - {1}", elementwise=True, additive=True,
    ),
    Op(
        name="mul", symbol="*", family="arithmetic",
        about="elementwise product; a column [n] scales the rows of [n, m]", example="l * h",
        arity=(2, 2), rule=elementwise, torch="{0} * {1}", oracle="{0} * {1}",
        elementwise=True, linear=BOTH, vanishes=BOTH, contraction=_side_by_side,
    ),
    Op(
        name="div", symbol="/", family="arithmetic", about="elementwise quotient", example="h / l",
        arity=(2, 2), rule=elementwise, torch="{0} / {1}", oracle="{0} / {1}",
        elementwise=True, linear=FIRST, vanishes=FIRST,
    ),
    Op(
        name="pow", symbol="**", family="arithmetic", about="power with a constant exponent", example="h ** 2",
        arity=(2, 2), rule=elementwise, torch="{0} ** {1}", oracle="{0} ** {1}", elementwise=True, vanishes=FIRST,
    ),
    Op(
        name="neg", symbol="-", family="arithmetic", about="negative", example="-h",
        arity=(1, 1), rule=elementwise, torch="-{0}", oracle="-{0}",
        elementwise=True, linear=FIRST, vanishes=FIRST, contraction=_itself,
    ),
    Op(
        name="sqrt", family="arithmetic", about="square root", example="sqrt(r)",
        arity=(1, 1), rule=elementwise, function=sqrt, oracle="np.sqrt({0})", elementwise=True, vanishes=FIRST,
        latex=r"\sqrt{{{0}}}",
    ),
    Op(
        name="clamp", family="arithmetic", about="the larger of a value and a number", example="clamp(l - beta, 0.0001)",
        arity=(2, 2), rule=elementwise, torch="{0}.clamp_min({1})", oracle="np.maximum({0}, {1})", elementwise=True,
        latex=r"\max({0}, {1})",
    ),
)  # fmt: skip
