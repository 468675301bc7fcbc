"""Facts of a matrix, whatever its leaves become: a bound of its rank, of its numbers that are not zero, and its form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from typing import Literal

from peftref.core.problem import PeftrefError
from peftref.language import einsum
from peftref.language.expr import Call, Expr, Name, Text, names, walk
from peftref.language.scope import Leaf, Scope
from peftref.language.size import Size

Form = Literal[
    "", "diagonal", "blocks", "entries", "Kronecker product", "elementwise product", "circulant blocks", "Fourier basis",
    "frozen basis",
]  # fmt: skip
NOMINAL = 2764800
"""A width that is divisible by what widths are divided by, and above every bound that does not grow with it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of one matrix; None where nothing is known but its shape.

    rank: its rank is at most so large. filled: so many of its numbers at most are not zero; of a basis, of its coefficients. form:
    `blocks` stand on the diagonal, so many as `blocks` says. orthogonal: its transpose is its inverse. apart: it differs from the
    identity matrix by a matrix of at most this rank.
    """

    rank: Size | None = None
    filled: Size | None = None
    form: Form = ""
    blocks: Size | None = None
    orthogonal: bool = False
    apart: Size | None = None

    def show(self) -> str:
        """The facts of what is added, in words."""
        words: list[str] = []
        match self.form:
            case "entries":
                return f"at most {_text(self.filled)} entries"
            case "Fourier basis" | "frozen basis":
                return f"{self.form}, at most {_text(self.filled)} coefficients"
            case "diagonal":
                return "diagonal"
            case "blocks":
                words = [f"{_text(self.blocks)} blocks on the diagonal"]
            case "":
                words = []
            case form:
                words = [form]
        words += [f"rank at most {self.rank.show()}"] if self.rank is not None else []
        return ", ".join(words) or "no bound of its rank"

    def noun(self) -> str:
        """The facts of what W is multiplied with, in words."""
        if self.orthogonal:
            words = [f"an orthogonal matrix of {self.blocks.show()} blocks" if self.blocks else "an orthogonal matrix"]
            words += [f"which is the identity but for rank {self.apart.show()}"] if self.apart else []
            return " ".join(words)
        sparse = f" of at most {self.filled.show()} entries" if self.filled is not None else ""
        return f"a matrix{sparse}"


def _text(size: Size | None) -> str:
    return "" if size is None else size.show()


class Reader:
    """Reads the facts of expressions. leaves: by name; settings: of the technique, by which bounds are compared."""

    def __init__(self, scope: Scope, leaves: Mapping[str, Leaf], settings: Mapping[str, object]) -> None:
        self.scope = scope
        self.leaves = leaves
        whole = {name: value for name, value in settings.items() if type(value) is int}
        self.nominal = {"n_heads": 32, "n_kv_heads": 32, **whole}

    def axes(self, expr: Expr) -> int:
        """How many axes a value has."""
        return len(self.scope.kind(expr).dims)

    def size(self, bound: Size) -> float:
        """A bound as a number at a nominal width, to compare it with others."""
        values = {symbol: self.nominal.get(symbol, NOMINAL) for symbol in bound.symbols()}
        try:
            return bound.evaluate(values)
        except PeftrefError:
            return float("inf")

    def least(self, *bounds: Size | None) -> Size | None:
        """The smallest of some bounds, None where there is none."""
        known = [bound for bound in bounds if bound is not None]
        return min(known, key=self.size) if known else None

    def facts(self, expr: Expr) -> Facts:
        """The facts of a matrix; a bound that its shape gives by itself is left out."""
        found, limit = self.read(expr), self.least(*self.scope.kind(expr).dims)
        vain = found.rank is not None and limit is not None and self.size(found.rank) >= self.size(limit)
        return replace(found, rank=None) if vain else found

    def read(self, expr: Expr) -> Facts:
        """The facts of a matrix, with a bound of its rank by its shape at least."""
        dims = self.scope.kind(expr).dims
        if len(dims) < 2:
            return Facts()
        found = self._read(expr)
        if len(dims) == 2:
            return replace(found, rank=self.least(found.rank, *dims))
        return replace(found, rank=self.least(found.rank, *dims[-2:]))

    def _read(self, expr: Expr) -> Facts:
        if not isinstance(expr, Call):
            return Facts()
        match expr.op, expr.args:
            case (("transpose" | "stop_gradient" | "steered" | "dropout"), (inner, *_)):
                return self.read(inner)
            case ("neg", (inner,)):
                return replace(self.read(inner), apart=None)
            case (("add" | "sub"), (one, other)):
                return self._sum(self.read(one), self.read(other), bool(min(self.axes(one), self.axes(other))))
            case (("mul" | "div"), (one, other)) if min(self.axes(one), self.axes(other)) < 2:
                return self._scaled(expr.op, one, other)
            case "mul", (one, other):
                return self._elementwise(self.read(one), self.read(other))
            case "matmul", _:
                return self.product(self.chain(expr))
            case "kron", (one, other):
                rank = self._times(self.read(one).rank, self.read(other).rank)
                return Facts(rank, form="Kronecker product")
            case "sum", (Call("kron", _) as inner,):
                count = self.scope.kind(inner).dims[0]
                return Facts(self._times(count, self.read(inner).rank))
            case "block_diag", (inner,):
                count, *block = self.scope.kind(inner).dims
                each = self.read(inner)
                filled = reduce(lambda a, b: a * b, block, count)
                return Facts(self._times(count, each.rank), filled, "blocks", count, each.orthogonal)
            case "diag", (inner,):
                (size,) = self.scope.kind(inner).dims
                return Facts(size, size, "diagonal")
            case "scatter", (inner, _):
                count = reduce(lambda a, b: a * b, self.scope.kind(inner).dims)
                rows = self.scope.kind(inner).dims
                return Facts(rows[0] if len(rows) == 2 else count, count, "entries")
            case "ifft2", (inner,):
                coefficients = self.read(inner)
                return Facts(filled=coefficients.filled, form="Fourier basis" if coefficients.filled else "")
            case "cayley", _:
                return Facts(orthogonal=True)
            case "butterfly", (_,):
                return Facts(orthogonal=self.read(expr.args[0]).orthogonal)
            case "householder", (inner,):
                return Facts(orthogonal=True, apart=self.scope.kind(inner).dims[0])
            case "circulant", _:
                return Facts(form="circulant blocks")
            case "einsum", _:
                return self._einsum(expr)
        return Facts()

    def chain(self, expr: Expr) -> list[Expr]:
        """The factors of a matrix product, from left to right; a vector that scales rows is a diagonal matrix."""
        match expr:
            case Call("matmul", (left, right)):
                return [*self.chain(left), *self.chain(right)]
            case Call("mul", (left, right)) if self.axes(left) < 2 <= self.axes(right):
                if self.axes(left):
                    return [Call("diag", (left,)), *self.chain(right)]
                first, *rest = self.chain(right)
                return [Call("mul", (left, first)) if rest else expr, *rest]
        return [expr]

    def product(self, factors: Sequence[Expr]) -> Facts:
        """The facts of a matrix product."""
        each = [self.read(factor) for factor in factors]
        if len(each) == 1:
            return each[0]
        rank = self.least(*(one.rank for one in each))
        if all(one.orthogonal for one in each):
            return Facts(rank, orthogonal=True)
        if all(one.form == "diagonal" for one in each):
            return Facts(rank, each[0].filled, "diagonal")
        counts = {one.blocks for one in each if one.form == "blocks"}
        if all(one.form in ("blocks", "diagonal") for one in each) and len(counts) == 1:
            return Facts(rank, form="blocks", blocks=counts.pop())
        inside = each[1:-1]
        outer = (factors[0], factors[-1])
        if (
            len(each) > 2
            and all(map(self.frozen, outer))
            and len(inside) == 1
            and inside[0].form in ("diagonal", "entries")
        ):
            return Facts(rank, inside[0].filled, "frozen basis")
        return Facts(rank)

    def frozen(self, expr: Expr) -> bool:
        """Whether no trained leaf is in a value."""
        return not any(self.leaves[name].trainable for name in names(expr) if name in self.leaves)

    def acting(self, expr: Call) -> Facts | None:
        """The matrix that a contraction multiplies W with from the left; None where it does something else to W."""
        text, *args = expr.args
        assert isinstance(text, Text)
        pattern = einsum.parse_pattern(text.value)
        at = [number for number, arg in enumerate(args) if "W" in names(arg)]
        if len(at) != 1 or args[at[0]] != Name("W") or len(pattern.result) != 2:
            return None
        rows, columns = pattern.operands[at[0]]
        others = {i for n, axes in enumerate(pattern.operands) if n != at[0] for axis in axes for i in axis}
        if pattern.result[1] != columns or others & set(columns):
            return None
        sizes = self.scope.axes(expr)
        filled = reduce(lambda a, b: a * b, (sizes[i] for i in {*rows, *pattern.result[0]}), Size.of(1))
        return Facts(filled=filled)

    def _einsum(self, expr: Call) -> Facts:
        text, *args = expr.args
        assert isinstance(text, Text)
        pattern = einsum.parse_pattern(text.value)
        if len(pattern.result) != 2:
            return Facts()
        if len(args) == 1 and any(isinstance(node, Call) and node.op == "circulant" for node in walk(args[0])):
            form: Form = "circulant blocks" if self._minor(pattern) else ""
            return Facts(form=form)
        moving = [arg for arg in args if not self.frozen(arg)]
        if len(moving) == 1 and len(args) > 1 and self.axes(moving[0]) == 2 and not self._shared(pattern):
            inner = self.read(moving[0])
            if inner.form == "entries":
                return Facts(self._cut(expr, pattern), inner.filled, "frozen basis")
        return Facts(self._cut(expr, pattern))

    @staticmethod
    def _minor(pattern: einsum.Pattern) -> bool:
        """Whether the last two axes of a stack of square matrices become the inner parts of rows and columns."""
        (axes,), (rows, columns) = pattern.operands, pattern.result
        return len(axes) == 4 and (rows, columns) == ((*axes[0], *axes[2]), (*axes[1], *axes[3]))

    @staticmethod
    def _shared(pattern: einsum.Pattern) -> bool:
        """Whether an index of several operands stands in the result, so that it is no product of matrices."""
        every = [i for axes in pattern.operands for i in {index for axis in axes for index in axis}]
        return any(every.count(i) > 1 for axis in pattern.result for i in axis)

    def _cut(self, expr: Call, pattern: einsum.Pattern) -> Size | None:
        """The rank of a contraction as a matrix: the least product of sizes that a cut between its rows and its columns goes through."""
        sizes = self.scope.axes(expr)
        held = [_held(axes, arg) for axes, arg in zip(pattern.operands, expr.args[1:], strict=True)]
        rows, columns = (frozenset(axis) for axis in pattern.result)
        found: Size | None = None
        for sides in product((True, False), repeat=len(held)):
            left = rows.union(*(own for own, side in zip(held, sides, strict=True) if side))
            right = columns.union(*(own for own, side in zip(held, sides, strict=True) if not side))
            cut = reduce(lambda a, b: a * b, (sizes[i] for i in sorted(left & right)), Size.of(1))
            found = self.least(found, cut)
        return found

    def _sum(self, one: Facts, other: Facts, matrices: bool) -> Facts:
        rank = one.rank + other.rank if one.rank is not None and other.rank is not None else None
        if one.filled is None or other.filled is None or not matrices:
            return Facts(rank)
        both = {one.form, other.form}
        form: Form = (
            one.form
            if len(both) == 1 and one.blocks == other.blocks
            else "entries"
            if both <= {"entries", "diagonal"}
            else ""
        )
        if form not in ("entries", "diagonal", "blocks"):
            return Facts(rank)
        filled = one.filled if form in ("diagonal", "blocks") else one.filled + other.filled
        return Facts(rank, filled, form, one.blocks if form == "blocks" else None)

    def _scaled(self, op: str, one: Expr, other: Expr) -> Facts:
        """A matrix whose rows, or all of it, are scaled."""
        matrix, factor = (other, one) if op == "mul" and self.axes(one) < 2 <= self.axes(other) else (one, other)
        if self.axes(matrix) < 2:
            return Facts()
        inner = self.read(matrix)
        alone = self.axes(factor) == 0
        if alone and not inner.orthogonal:
            return inner
        kept: Form = (
            inner.form if inner.form in ("diagonal", "blocks", "entries", "elementwise product", "frozen basis") else ""
        )
        if kept == "frozen basis":
            kept = ""
        return Facts(inner.rank, inner.filled if kept else None, kept, inner.blocks if kept else None)

    def _elementwise(self, one: Facts, other: Facts) -> Facts:
        rank = self._times(one.rank, other.rank)
        for each in (one, other):
            if each.form in ("diagonal", "blocks", "entries") and each.filled is not None:
                return Facts(each.rank if each.form == "diagonal" else None, each.filled, each.form, each.blocks)
        return Facts(rank, form="elementwise product")

    @staticmethod
    def _times(one: Size | None, other: Size | None) -> Size | None:
        return None if one is None or other is None else one * other


def _held(axes: tuple[einsum.Axis, ...], arg: Expr) -> frozenset[str]:
    """The indices on which an operand depends: all of its axes but those along which it is repeated."""
    while isinstance(arg, Call) and arg.op == "tile":
        axes, arg = axes[1:], arg.args[0]
    return frozenset(index for axis in axes for index in axis)
