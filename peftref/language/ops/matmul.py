"""matmul: the matrix product."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.kind import Kind, KindError, widest
from peftref.language.op import BOTH, Axis, Op, Shape
from peftref.language.source import Source, atom

if TYPE_CHECKING:
    from collections.abc import Callable

    from peftref.language.op import Array


def rule(left: Kind, right: Kind) -> Kind:
    """[a, b] @ [b, c], [a, b] @ [b], and stacks [n, a, b] @ [n, b, c]; per token where the right operand is."""
    if len(left.dims) < 2:
        raise KindError(
            f"the left operand is {left.show()}, not a matrix", "scale by a vector with *, or make it diag(v)"
        )
    if not right.dims:
        raise KindError("the right operand is a number", "scale by a number with *")
    if left.per != "none" and right.per == "none":
        raise KindError(
            f"the left operand is {left.show()} and the right one is not", "in the column convention, write M @ x"
        )
    stack = left.dims[:-2]
    inner = right.dims[len(stack)] if len(right.dims) > len(stack) else None
    if right.dims[: len(stack)] != stack or inner is None or len(right.dims) > len(stack) + 2:
        raise KindError(f"a stack {left.show()} needs a stack of the same length, not {right.show()}")
    if inner != left.dims[-1]:
        raise KindError(f"inner sizes differ: {left.dims[-1].show()} and {inner.show()}", None, (left.dims[-1], inner))
    return Kind((*stack, left.dims[-2], *right.dims[len(stack) + 1 :]), widest((left, right)))


def _source(call: Source) -> str:
    """A value per token is a row: what is the same for all tokens meets it as a linear layer."""
    (a, b), (left, right) = call.kinds, call.args
    fixed = len(a.dims) == 2 and a.per == "none"
    if len(b.dims) != len(a.dims) - 1 or (fixed and b.per == "none"):
        return f"{atom(left)} @ {atom(right)}"
    return f"F.linear({right}, {left})" if fixed else f"({atom(left)} @ {atom(right)}[..., None])[..., 0]"


def _oracle(a: Array, b: Array) -> Array:
    import numpy as np

    return np.asarray(a @ b) if a.ndim == 2 else np.stack([_oracle(x, y) for x, y in zip(a, b, strict=True)])


def _contraction(
    equal: Callable[[Axis, Axis], None], left: tuple[Axis, ...], right: tuple[Axis, ...]
) -> tuple[Axis, ...]:
    stack = len(left) - 2
    for one, other in zip(left[:stack], right[:stack], strict=True):
        equal(one, other)
    equal(left[-1], right[stack])
    return (*left[:stack], left[-2], *right[stack + 1 :])


def _flops(args: tuple[Shape, ...], out: Shape, length: int) -> int:
    total = 2 * args[0][-1]
    for extent in out:
        total *= extent
    return total


OPS = (
    Op(
        name="matmul", symbol="@", family="contraction", about="matrix product", example="A @ x", arity=(2, 2), rule=rule,
        torch=_source, oracle=_oracle, linear=BOTH, vanishes=BOTH, contraction=_contraction, flops=_flops, costly=True,
    ),
)  # fmt: skip
