"""Linearity: an expression as `M @ v + c` in the value that flows through a slot, or the part that keeps it from being so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from peftref.language import einsum
from peftref.language.expr import Call, Expr, Name, Number, Text, call, names
from peftref.language.ops import TABLE
from peftref.language.parse import parse_expression
from peftref.language.scope import Scope
from peftref.language.show import show
from peftref.language.size import Size


class NotLinearError(Exception):
    """The expression is not linear in its input: `where` is the smallest part that is not, `reason` says why."""

    def __init__(self, where: Expr, reason: str) -> None:
        super().__init__(f"{show(where)} {reason}")
        self.where = where
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Affine:
    """`scale * I + M` times the input, plus a shift; a part that is zero is None.

    scale: a number or a vector. matrix: [out, in]. shift: [out].
    """

    scale: Expr | None = None
    matrix: Expr | None = None
    shift: Expr | None = None

    def __add__(self, other: Affine) -> Affine:
        return Affine(_plus(self.scale, other.scale), _plus(self.matrix, other.matrix), _plus(self.shift, other.shift))

    def scaled(self, factor: Expr, op: str = "mul") -> Affine:
        """Every part times (or over) a number or a vector, which scales rows."""

        def by(part: Expr | None) -> Expr | None:
            if part is None or (op == "mul" and part == Number(1)):
                return None if part is None else factor
            return call("mul", factor, part) if op == "mul" else call("div", part, factor)

        return Affine(by(self.scale), by(self.matrix), by(self.shift))

    def through(self, left: Expr, scope: Scope) -> Affine:
        """A matrix applied to it."""
        direct = None if self.scale is None else _after(left, self.scale, scope)
        product = None if self.matrix is None else call("matmul", left, self.matrix)
        shift = None if self.shift is None else call("matmul", left, self.shift)
        return Affine(None, _plus(direct, product), shift)


_Axes = tuple[tuple[str, ...], ...]

INPUT = Affine(scale=Number(1))


def affine(expr: Expr, known: Mapping[str, Affine], blocked: Mapping[str, str], scope: Scope) -> Affine:
    """An expression as an affine map. known: the affine maps that names stand for; blocked: names that may not be read, and why.

    Raises NotLinearError.

        from peftref.language.parse import parse_expression
    >>> from peftref.language.scope import Leaf, scope_at
    >>> from peftref.language.read_size import parse_size
    >>> scope = scope_at("ffn.up", {"A": Leaf("A", (parse_size("r"), parse_size("d_in")))}, {"r": 8, "s": 2.0})
    >>> show(affine(parse_expression("s * A @ x"), {"x": INPUT}, {}, scope).matrix)
    's * A'
    """
    return _Reader(known, blocked, scope).read(expr)


class _Reader:
    def __init__(self, known: Mapping[str, Affine], blocked: Mapping[str, str], scope: Scope) -> None:
        self.known = known
        self.blocked = blocked
        self.scope = scope

    def depends(self, expr: Expr) -> bool:
        return bool(names(expr) & (self.known.keys() | self.blocked.keys()))

    def read(self, expr: Expr) -> Affine:
        if isinstance(expr, Name):
            if expr.name in self.blocked:
                raise NotLinearError(expr, self.blocked[expr.name])
            return self.known.get(expr.name, Affine(shift=expr))
        if not self.depends(expr):
            return Affine(shift=expr)
        assert isinstance(expr, Call)
        args = [arg for arg in expr.args if not isinstance(arg, Text)]
        match expr.op, args:
            case "add", (left, right):
                return self.read(left) + self.read(right)
            case "sub", (left, right):
                return self.read(left) + self.read(right).scaled(Number(-1))
            case "neg", (inner,):
                return self.read(inner).scaled(Number(-1))
            case "mul", (left, right) if not self.depends(left):
                return self.read(right).scaled(left)
            case "mul", (left, right) if not self.depends(right):
                return self.read(left).scaled(right)
            case "div", (left, right) if not self.depends(right):
                return self.read(left).scaled(right, "div")
            case "matmul", (left, Call("einsum") as right) if not self.depends(left) and self._vector(right):
                return self._einsum(Call("einsum", (Text("out in, in -> out"), left, right)))
            case "matmul", (left, right) if not self.depends(left):
                return self.read(right).through(left, self.scope)
            case "einsum", _:
                return self._einsum(expr)
        if TABLE[expr.op].passes:
            return self.read(args[0])
        if TABLE[expr.op].columns and not any(self.depends(arg) for arg in args[1:]):
            return self._columns(self.read(args[0]), expr)
        for arg in args:
            if self.depends(arg):
                self.read(arg)
        reads = sorted(names(expr) & self.known.keys())
        raise NotLinearError(expr, f"is not linear in {' and '.join(reads)}")

    def _vector(self, expr: Expr) -> bool:
        return len(self.scope.kind(expr).dims) == 1

    def _tiled(self, expr: Call, index: str, axes: _Axes, factor: Expr) -> tuple[_Axes, Expr]:
        """A factor, repeated along an index of the input that is only summed over: the matrix is the same all along it."""
        size = parse_expression(self.scope.axes(expr)[index].show())
        return ((index,), *axes), Call("tile", (factor,), (("n", size),))

    def _columns(self, inner: Affine, expr: Call) -> Affine:
        """An op along the first axis is the same for a matrix as for each of its columns."""
        if inner.scale is not None:
            raise NotLinearError(expr, "takes numbers of the input itself")
        made = [
            None if part is None else Call(expr.op, (part, *expr.args[1:]), expr.options)
            for part in (inner.matrix, inner.shift)
        ]
        return Affine(None, *made)

    def _einsum(self, expr: Call) -> Affine:
        expr = _fused(expr)
        text, *args = expr.args
        assert isinstance(text, Text)
        pattern = einsum.parse_pattern(text.value)
        moving = [i for i, arg in enumerate(args) if self.depends(arg)]
        if len(moving) != 1:
            raise NotLinearError(expr, "is a contraction of several values that depend on the input")
        at = moving[0]
        inner = self.read(args[at])
        axis = pattern.operands[at][0]
        result = Affine()
        others = [(axes, arg) for i, (axes, arg) in enumerate(zip(pattern.operands, args, strict=True)) if i != at]
        factor = scaling(expr, at, self.scope) if inner.scale is not None and inner.matrix is None else None
        if factor is not None:
            return inner.scaled(factor)
        if inner.scale is not None:
            if (
                not others
                or inner.scale != Number(1)
                or set(axis) & {index for each in pattern.result for index in each}
            ):
                raise NotLinearError(expr, "scales the input within a contraction")
            for index in axis:
                if index not in _indices(others):
                    others[0] = self._tiled(expr, index, *others[0])
            made = einsum.Pattern(tuple(axes for axes, _ in others), (*pattern.result, axis))
            result += Affine(matrix=Call("einsum", (Text(made.show()), *(arg for _, arg in others)), expr.options))
        fresh = next(f"z{i}" for i in range(99) if f"z{i}" not in pattern.indices())
        for name, value, more in (("matrix", inner.matrix, ((fresh,),)), ("shift", inner.shift, ())):
            if value is not None:
                operands = [(*axes, *more) if i == at else axes for i, axes in enumerate(pattern.operands)]
                made = einsum.Pattern(tuple(operands), (*pattern.result, *more))
                filled = [value if i == at else arg for i, arg in enumerate(args)]
                result += Affine(**{name: Call("einsum", (Text(made.show()), *filled), expr.options)})
        return result


def scaling(expr: Call, at: int, scope: Scope) -> Expr | None:
    """What a contraction multiplies one of its operands with, elementwise: a number, a column, or of its shape; None where it mixes.

        from peftref.language.parse import parse_expression
    >>> from peftref.language.scope import Leaf, scope_at
    >>> from peftref.language.read_size import parse_size
    >>> scope = scope_at("attention.core", {"g": Leaf("g", (parse_size("d_value"),))}, {})
    >>> show(scaling(parse_expression('einsum("d, n d -> n d", g, o)'), 1, scope))
    'tile(g, n=n_heads)'
    """
    text, *args = expr.args
    assert isinstance(text, Text)
    pattern = einsum.parse_pattern(text.value)
    whole = pattern.result
    every = [index for axis in whole for index in axis]
    if pattern.operands[at] != whole:
        return None
    found: Expr | None = None
    for number, (axes, arg) in enumerate(zip(pattern.operands, args, strict=True)):
        own = [index for axis in axes for index in axis]
        if number == at:
            continue
        if not set(own) <= set(every) or len(set(own)) != len(own):
            return None
        if axes not in ((), whole[:1]):
            arg = _spread(arg, axes, whole, scope.axes(expr))
        found = arg if found is None else call("mul", found, arg)
    return found


def _spread(arg: Expr, axes: _Axes, whole: _Axes, sizes: Mapping[str, Size]) -> Expr:
    """A value repeated along the indices that it lacks, in the axes of the whole."""
    for index in [index for axis in whole for index in axis if all(index not in own for own in axes)]:
        arg, axes = Call("tile", (arg,), (("n", parse_expression(sizes[index].show())),)), ((index,), *axes)
    return arg if axes == whole else Call("einsum", (Text(einsum.Pattern((axes,), whole).show()), arg))


def _fused(expr: Call) -> Call:
    """A contraction of a contraction as one, where the axes of the inner one are grouped alike in both."""
    text, *args = expr.args
    assert isinstance(text, Text)
    pattern = einsum.parse_pattern(text.value)
    for i, arg in enumerate(args):
        if not isinstance(arg, Call) or arg.op != "einsum" or not isinstance(arg.args[0], Text):
            continue
        inner = einsum.parse_pattern(arg.args[0].value)
        outer = pattern.operands[i]
        if [len(axis) for axis in inner.result] != [len(axis) for axis in outer]:
            continue
        names = {a: b for one, other in zip(inner.result, outer, strict=True) for a, b in zip(one, other, strict=True)}
        taken = set(pattern.indices()) | set(names.values())
        for index in inner.indices():
            if index not in names:
                names[index] = next(name for n in range(99) if (name := f"{index}{n or ''}") not in taken)
                taken.add(names[index])
        moved = tuple(tuple(tuple(names[index] for index in axis) for axis in axes) for axes in inner.operands)
        made = einsum.Pattern((*pattern.operands[:i], *moved, *pattern.operands[i + 1 :]), pattern.result)
        sizes = dict(expr.options) | {names[name]: size for name, size in arg.options if name in names}
        operands = (*args[:i], *arg.args[1:], *args[i + 1 :])
        return _fused(Call("einsum", (Text(made.show()), *operands), tuple(sorted(sizes.items()))))
    return expr


def _indices(operands: list[tuple[_Axes, Expr]]) -> set[str]:
    return {index for axes, _ in operands for axis in axes for index in axis}


def _plus(one: Expr | None, other: Expr | None) -> Expr | None:
    if one is None or other is None:
        return other if one is None else one
    return call("add", one, other)


def _after(left: Expr, scale: Expr, scope: Scope) -> Expr:
    """A matrix times a scaled identity: by its columns where the scale is a vector."""
    if scale == Number(1):
        return left
    return call("matmul", left, call("diag", scale)) if scope.kind(scale).dims else call("mul", scale, left)
