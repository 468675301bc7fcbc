"""part: one of several equal parts, as `split` takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.kind import Kind, KindError
from peftref.language.op import FIRST, Op
from peftref.language.size import Size
from peftref.language.source import Source, atom

if TYPE_CHECKING:
    from peftref.language.op import Array


def rule(whole: Kind, index: float, count: float) -> Kind:
    """The first axis becomes as many times shorter as there are parts."""
    if not 0 <= index < count:
        raise KindError("part takes a whole number i and a whole number n above it: part(z, 0, 2)")
    if not whole.dims:
        raise KindError("part needs a vector or a stack, and this is a number")
    return Kind((whole.dims[0] / Size.of(int(count)), *whole.dims[1:]), whole.per)


def _source(call: Source) -> str:
    value, index, _ = call.args
    width = call.result.evaluate(call.sizes)[0]
    return f"{atom(value)}.narrow(-{len(call.result.dims)}, {int(index) * width}, {width})"


def _oracle(value: Array, index: float, count: float) -> Array:
    width = len(value) // int(count)
    return value[int(index) * width : (int(index) + 1) * width]


OPS = (
    Op(
        name="part", family="structure",
        about="part i of n equal parts along the first axis; `a, b = split(z)` is short for parts", example="part(z, 0, 2)",
        arity=(3, 3), rule=rule, literals=frozenset({1, 2}), torch=_source, oracle=_oracle, linear=FIRST, vanishes=FIRST,
        columns=True, view=True, latex=r"\operatorname{{part}}_{{{1}/{2}}}({0})",
    ),
)  # fmt: skip
