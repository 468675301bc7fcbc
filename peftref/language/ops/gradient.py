"""What happens to a gradient: it stops, or becomes another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.op import FIRST, Op
from peftref.language.rules import elementwise

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def steered(leaf: Tensor, turn: Callable[[Tensor], Tensor]) -> Tensor:
    """The leaf itself; where it is trained, its gradient is turned on its way back."""
    value = leaf.view_as(leaf)
    if value.requires_grad:
        value.register_hook(turn)  # type: ignore[no-untyped-call]  # torch's hooks have no types
    return value


OPS = (
    Op(
        name="stop_gradient", family="flow", about="the same value, through which no gradient flows",
        example="stop_gradient(W)", arity=(1, 1), rule=elementwise, torch="{0}.detach()", oracle="{0}", elementwise=True,
        linear=FIRST, vanishes=FIRST, passes=True, still=FIRST, view=True, latex=r"\operatorname{{sg}}({0})",
    ),
    Op(
        name="steered", family="flow",
        about="a leaf whose gradient g becomes what the second operand, linear in the leaf, is with g in its place",
        example="steered(l, 2 * l)", arity=(2, 2), rule=elementwise, leaves=FIRST, function=steered, oracle="{0}",
        linear=FIRST, vanishes=FIRST, passes=True, still=frozenset({1}), aside=frozenset({1}), view=True,
    ),
)  # fmt: skip
