"""Named-axis contractions: `einsum("n a b, n c d -> (a c) (b d)", S, T)`. Token axes stay implicit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from peftref.language.kind import Kind, KindError, widest
from peftref.language.size import Size

_AXIS = re.compile(r"\(([^()]*)\)|([A-Za-z_][A-Za-z0-9_]*)|(\S)")

Axis = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pattern:
    """The axes of every operand and of the result; an axis is a group of one or more named indices."""

    operands: tuple[tuple[Axis, ...], ...]
    result: tuple[Axis, ...]

    def show(self) -> str:
        """The pattern as text."""
        left = ", ".join(_show(axes) for axes in self.operands)
        return f"{left} -> {_show(self.result)}"

    def indices(self) -> tuple[str, ...]:
        """Every index, in the order in which it first occurs."""
        found: dict[str, None] = {}
        for axes in (*self.operands, self.result):
            for axis in axes:
                found.update(dict.fromkeys(axis))
        return tuple(found)


def parse_pattern(text: str) -> Pattern:
    """A pattern from its text; raises KindError.

    >>> parse_pattern("n a b, n c d -> (a c) (b d)").result
    (('a', 'c'), ('b', 'd'))
    """
    left, arrow, right = text.partition("->")
    if not arrow:
        raise KindError('a pattern names the axes of operands and result: "a b, b -> a"')
    pattern = Pattern(tuple(_axes(part) for part in left.split(",")), _axes(right))
    known = {index for axes in pattern.operands for axis in axes for index in axis}
    out = [index for axis in pattern.result for index in axis]
    for index in out:
        if index not in known:
            raise KindError(f"the result's axis {index} is in no operand of the pattern")
    if len(set(out)) != len(out):
        raise KindError("an axis stands twice in the result of the pattern")
    return pattern


def bind(
    pattern: Pattern, kinds: tuple[Kind, ...], given: Mapping[str, Size] = MappingProxyType({})
) -> dict[str, Size]:
    """The size of every index; raises KindError where the operands do not fit the pattern.

    The indices of a group must have sizes of their own, given or from another axis, all but one of them.
    """
    if len(pattern.operands) != len(kinds):
        raise KindError(f"the pattern has {len(pattern.operands)} operands, and {len(kinds)} are given")
    sizes: dict[str, Size] = dict(given)
    groups: list[tuple[Axis, Size]] = []
    for axes, kind in zip(pattern.operands, kinds, strict=True):
        if len(axes) != len(kind.dims):
            raise KindError(f"the pattern gives {len(axes)} axes to an operand that is {kind.show()}")
        for axis, dim in zip(axes, kind.dims, strict=True):
            if len(axis) == 1:
                known = sizes.setdefault(axis[0], dim)
                if known != dim:
                    raise KindError(f"axis {axis[0]} is {known.show()} and {dim.show()}", None, (known, dim))
            else:
                groups.append((axis, dim))
    for axis, dim in groups:
        missing = [index for index in axis if index not in sizes]
        if len(missing) > 1:
            raise KindError(
                f"the sizes of the axes {' and '.join(missing)} cannot be told apart", f"give one: {missing[0]}=n"
            )
        rest = dim
        for index in axis:
            if index not in missing:
                rest = rest / sizes[index]
        if missing:
            sizes[missing[0]] = rest
        elif rest != Size.of(1):
            product = " * ".join(axis)
            raise KindError(f"the group ({' '.join(axis)}) is {dim.show()}, but {product} is not")
    return sizes


def rule(pattern: Pattern, kinds: tuple[Kind, ...], given: Mapping[str, Size] = MappingProxyType({})) -> Kind:
    """The kind of a contraction's result."""
    sizes = bind(pattern, kinds, given)
    dims = []
    for axis in pattern.result:
        dim = Size.of(1)
        for index in axis:
            dim = dim * sizes[index]
        dims.append(dim)
    return Kind(tuple(dims), widest(kinds))


def along_axis(matrices: str, x: str, result: str) -> tuple[tuple[int, ...], int] | None:
    """How stacked matrices act along one axis of x and leave the others: an order of their axes, and which axis; None if they do not.

    Every letter is an index. In that order the matrices are [p, q, the other axes of x]; the axis is counted from the end.

    >>> along_axis("npqk", "nqk", "npk"), along_axis("pq", "qn", "np")
    (((1, 2, 0, 3), -2), None)
    """
    rows, columns = set(result) - set(x), set(x) - set(result)
    if len(rows) != 1 or len(columns) != 1 or len(matrices) != len(x) + 1:
        return None
    (row,), (column,) = rows, columns
    order = (row, column, *(letter for letter in x if letter != column))
    if result != x.replace(column, row) or set(order) != set(matrices):
        return None
    return tuple(matrices.index(letter) for letter in order), x.index(column) - len(x)


def _axes(text: str) -> tuple[Axis, ...]:
    axes: list[Axis] = []
    for group, single, wrong in _AXIS.findall(text):
        if wrong:
            raise KindError(f"{wrong!r} has no place in a pattern", 'axes are names: "a b, b -> a"')
        axes.append((single,) if single else tuple(group.split()))
    return tuple(axes)


def _show(axes: tuple[Axis, ...]) -> str:
    return " ".join(axis[0] if len(axis) == 1 else f"({' '.join(axis)})" for axis in axes)
