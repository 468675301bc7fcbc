"""Products as tensor networks: matmul, Hadamard, Kronecker and block structure, stacks and sums are all one contraction.

`kron(S, u @ v) @ h` names the same numbers as a contraction of S, u, v and h over shared indices; written so, applying instead
of materialising, associating by cost and the Khatri-Rao identity are no laws of their own any more, but orders of one contraction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from peftref.language import einsum
from peftref.language.expr import Call, Expr, Number, Text
from peftref.language.kind import Kind
from peftref.language.op import Axis
from peftref.language.ops import TABLE
from peftref.language.scope import Scope
from peftref.language.size import Size


class NotMultilinearError(Exception):
    """The expression cannot be written as one contraction."""


@dataclass(frozen=True, slots=True)
class Operand:
    """A factor of a network: an expression, and the indices of each of its axes (several where the axis is cut)."""

    expr: Expr
    axes: tuple[Axis, ...]
    per: str


@dataclass(frozen=True, slots=True)
class Network:
    """Factors, numbers in front, the axes of the result, and the size of every index."""

    operands: tuple[Operand, ...]
    scalars: tuple[Expr, ...]
    axes: tuple[Axis, ...]
    sizes: tuple[tuple[int, Size], ...]


def joins(expr: Expr) -> bool:
    """Whether an expression is a contraction of its operands."""
    return isinstance(expr, Call) and (TABLE[expr.op].contraction is not None or TABLE[expr.op].pattern)


def network(expr: Expr, scope: Scope) -> Network:
    """The network of a product; raises NotMultilinearError where it is none.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.scope import Leaf, scope_at
    >>> from peftref.language.read_size import parse_size
    >>> leaf = lambda name, *dims: Leaf(name, tuple(parse_size(dim) for dim in dims))
    >>> scope = scope_at("attention.query", {"A": leaf("A", "r", "d_in"), "B": leaf("B", "d_out", "r")}, {"r": 8})
    >>> [operand.axes for operand in network(parse_expression("2 * B @ A @ x"), scope).operands]
    [((0,), (1,)), ((1,), (3,)), ((3,),)]
    """
    builder = _Builder(scope)
    operands, scalars, axes = builder.expand(expr)
    resolved = tuple(Operand(op.expr, tuple(builder.resolve(axis) for axis in op.axes), op.per) for op in operands)
    out = tuple(builder.resolve(axis) for axis in axes)
    flat = [index for axis in out for index in axis]
    if len(set(flat)) != len(flat):
        raise NotMultilinearError("an index stands twice in the result")
    present = {index for operand in resolved for axis in operand.axes for index in axis}
    if not set(flat) <= present:
        raise NotMultilinearError("an index of the result is in no operand")
    return Network(resolved, tuple(scalars), out, tuple((i, builder.sizes[i]) for i in sorted(present)))


class _Builder:
    """Gives indices to axes, and makes axes equal by renaming an index or cutting it into several."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.fresh: Iterator[int] = count()
        self.sizes: dict[int, Size] = {}
        self.become: dict[int, Axis] = {}

    def expand(self, expr: Expr) -> tuple[list[Operand], list[Expr], tuple[Axis, ...]]:
        kind = self.scope.kind(expr)
        if not kind.dims and kind.per == "none":
            return [], [expr], ()
        if not isinstance(expr, Call) or not joins(expr):
            return self._whole(expr, kind)
        contraction = TABLE[expr.op].contraction
        if contraction is None:
            return self._einsum(expr)
        parts = [self.expand(arg) for arg in expr.args]
        operands = [operand for part in parts for operand in part[0]]
        scalars = [scalar for part in parts for scalar in part[1]]
        shapes = [part[2] for part in parts]
        sign = [Number(-1)] if expr.op == "neg" else []
        return operands, [*sign, *scalars], contraction(self.equal, *shapes)

    def _whole(self, expr: Expr, kind: Kind) -> tuple[list[Operand], list[Expr], tuple[Axis, ...]]:
        axes = tuple((self.index(dim),) for dim in kind.dims)
        return [Operand(expr, axes, kind.per)], [], axes

    def _einsum(self, expr: Call) -> tuple[list[Operand], list[Expr], tuple[Axis, ...]]:
        text, *args = expr.args
        if not isinstance(text, Text):
            raise NotMultilinearError("no pattern")
        pattern = einsum.parse_pattern(text.value)
        sizes = self.scope.axes(expr)
        named = {name: self.index(sizes[name]) for name in pattern.indices()}
        operands: list[Operand] = []
        scalars: list[Expr] = []
        for arg, axes in zip(args, pattern.operands, strict=True):
            inner, numbers, shape = self.expand(arg)
            for one, axis in zip(shape, axes, strict=True):
                self.equal(one, tuple(named[name] for name in axis))
            operands += inner
            scalars += numbers
        return operands, scalars, tuple(tuple(named[name] for name in axis) for axis in pattern.result)

    def index(self, size: Size) -> int:
        new = next(self.fresh)
        self.sizes[new] = size
        return new

    def resolve(self, axis: Axis) -> Axis:
        """The axis in the indices that are left."""
        return tuple(
            final
            for index in axis
            for final in (self.resolve(self.become[index]) if index in self.become else (index,))
        )

    def equal(self, one: Axis, other: Axis) -> None:
        """Makes two axes the same: pairs of indices of one size become one, and an index that spans several is cut."""
        left, right = list(self.resolve(one)), list(self.resolve(other))
        while left and right:
            a, b = left[0], right[0]
            if a == b:
                left, right = left[1:], right[1:]
            elif self.sizes[a] == self.sizes[b]:
                self.become[b] = (a,)
                left, right = list(self.resolve(tuple(left[1:]))), list(self.resolve(tuple(right[1:])))
            elif len(left) == 1 and len(right) > 1:
                self.cut(a, right)
                return
            elif len(right) == 1 and len(left) > 1:
                self.cut(b, left)
                return
            elif (rest := self.sizes[a] / self.sizes[b]) and _whole_size(rest):
                piece = self.index(rest)
                self.cut(a, [b, piece])
                left, right = [piece, *left[1:]], right[1:]
            elif (rest := self.sizes[b] / self.sizes[a]) and _whole_size(rest):
                piece = self.index(rest)
                self.cut(b, [a, piece])
                left, right = left[1:], [piece, *right[1:]]
            else:
                raise NotMultilinearError(
                    f"axes of {self.sizes[a].show()} and {self.sizes[b].show()} cannot be made equal"
                )
        if left or right:
            raise NotMultilinearError("axes are cut differently")

    def cut(self, index: int, pieces: list[int]) -> None:
        if index in pieces:
            raise NotMultilinearError("an index would contain itself")
        self.become[index] = tuple(pieces)


def _whole_size(size: Size) -> bool:
    """Whether a quotient of sizes is surely whole: no symbol is left below."""
    return all(power > 0 for monomial, _ in size.terms for _, power in monomial) and all(
        factor.denominator == 1 for _, factor in size.terms
    )
