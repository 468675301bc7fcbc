"""The cheapest order of a contraction, found by looking at every order, and written back as products a reader knows."""

from __future__ import annotations

import string
from dataclasses import dataclass
from itertools import combinations

from peftref.language import einsum
from peftref.language.expr import Call, Expr, Name, Number, Text, call, walk
from peftref.language.op import Axis
from peftref.language.ops import TABLE
from peftref.language.parse import parse_expression
from peftref.language.rewrite.cost import Meter
from peftref.language.rewrite.network import Network, NotMultilinearError, network
from peftref.language.scope import Scope
from peftref.language.size import Size

MAX_OPERANDS = 8
ORDER = "associate by cost"
OPENED = {
    "kron": "apply kron without forming it",
    "block_diag": "apply blocks without forming the matrix",
    "diag": "scale instead of multiplying by a diagonal matrix",
}
"""The laws that a contraction takes, by the op that it takes apart."""


@dataclass(frozen=True, slots=True)
class _Node:
    """A partial result: its expression, the indices of its axes, and the operands it has taken in."""

    expr: Expr
    axes: tuple[Axis, ...]
    score: int

    @property
    def indices(self) -> frozenset[int]:
        return frozenset(index for axis in self.axes for index in axis)


def contract(expr: Expr, meter: Meter) -> tuple[Expr, tuple[str, ...]]:
    """The cheapest expression with the value of a product, and the laws that it takes; NotMultilinearError where it is no contraction.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.scope import Leaf, scope_at
    >>> from peftref.language.show import show
    >>> from peftref.language.read_size import parse_size
    >>> from peftref.language.rewrite.cost import Load
    >>> leaf = lambda name, *dims: Leaf(name, tuple(parse_size(dim) for dim in dims))
    >>> scope = scope_at("attention.query", {"A": leaf("A", "r", "d_in"), "B": leaf("B", "d_out", "r")}, {"r": 8})
    >>> meter = Meter(scope, {"r": 8, "d_in": 768, "d_out": 768}, Load(512, 64, frozenset("ABx")))
    >>> show(contract(parse_expression("2 * B @ A @ x"), meter)[0])
    'B @ (2 * (A @ x))'
    """
    net = network(expr, meter.scope)
    if len(net.operands) == 1 and net.scalars and net.operands[0].axes == net.axes:
        return _scale(net.operands[0].expr, _product(net.scalars), meter), (ORDER,)
    if not 1 < len(net.operands) <= MAX_OPERANDS:
        raise NotMultilinearError(f"{len(net.operands)} factors")
    best = _scale(_Search(net, meter).best(), _product(net.scalars), meter)
    opened = _opened(expr, frozenset(operand.expr for operand in net.operands))
    named = tuple(law for op, law in OPENED.items() if op in opened)
    return best, (*named, *([ORDER] if not named or _order(expr) != _order(best) else []))


def _opened(expr: Expr, operands: frozenset[Expr]) -> frozenset[str]:
    """The ops that the network took apart: those above its operands."""
    if expr in operands or not isinstance(expr, Call):
        return frozenset()
    return frozenset({expr.op}).union(*(_opened(arg, operands) for arg in expr.args))


def _order(expr: Expr) -> list[str]:
    return [node.name for node in walk(expr) if isinstance(node, Name)]


class _Search:
    """Dynamic programming over the subsets of the factors."""

    def __init__(self, net: Network, meter: Meter) -> None:
        self.net = net
        self.meter = meter
        self.result = frozenset(index for axis in net.axes for index in axis)

    def best(self) -> Expr:
        everything = frozenset(range(len(self.net.operands)))
        table = {frozenset({i}): _Node(operand.expr, operand.axes, 0) for i, operand in enumerate(self.net.operands)}
        for size in range(2, len(everything) + 1):
            for group in combinations(range(len(everything)), size):
                subset = frozenset(group)
                outside = self._outside(subset)
                candidates = [
                    self._join(table[left], table[subset - left], outside, last=subset == everything)
                    for left in _halves(subset)
                ]
                table[subset] = min(candidates, key=lambda node: node.score)
        return table[everything].expr

    def _outside(self, subset: frozenset[int]) -> frozenset[int]:
        found = set(self.result)
        for i, operand in enumerate(self.net.operands):
            if i not in subset:
                found.update(index for axis in operand.axes for index in axis)
        return frozenset(found)

    def _join(self, left: _Node, right: _Node, outside: frozenset[int], *, last: bool) -> _Node:
        keep = [index for index in (*_flat(left.axes), *_flat(right.axes)) if index in outside]
        axes = self.net.axes if last else tuple((index,) for index in dict.fromkeys(keep))
        expr = _pair(left, right, axes, self.meter.scope, dict(self.net.sizes))
        own = self.meter.cost(expr).score
        parts = self.meter.cost(left.expr).score + self.meter.cost(right.expr).score
        return _Node(expr, axes, left.score + right.score + own - parts)


def _halves(subset: frozenset[int]) -> list[frozenset[int]]:
    first, *others = sorted(subset)
    return [frozenset({first, *chosen}) for size in range(len(others)) for chosen in combinations(others, size)]


def _flat(axes: tuple[Axis, ...]) -> tuple[int, ...]:
    return tuple(index for axis in axes for index in axis)


def _pair(left: _Node, right: _Node, axes: tuple[Axis, ...], scope: Scope, sizes: dict[int, Size]) -> Expr:
    """The product of two factors as a matrix product or an elementwise one where it is one, else as an einsum."""
    for one, other in ((left, right), (right, left)):
        known = _matmul(one, other, axes, scope) or _mul(one, other, axes)
        if known is not None:
            return known
    indices = dict.fromkeys((*_flat(left.axes), *_flat(right.axes)))
    letters = dict(zip(indices, string.ascii_lowercase, strict=False))
    parts = (left.axes, right.axes, axes)
    first, second, result = (tuple(tuple(letters[index] for index in axis) for axis in part) for part in parts)
    single = {axis[0] for axis in (*left.axes, *right.axes) if len(axis) == 1}
    given = {letters[i]: parse_expression(sizes[i].show()) for i in indices if i not in single}
    return call("einsum", Text(einsum.Pattern((first, second), result).show()), left.expr, right.expr, **given)


def _matmul(left: _Node, right: _Node, axes: tuple[Axis, ...], scope: Scope) -> Expr | None:
    if len(left.axes) != 2 or not 1 <= len(right.axes) <= 2 or scope.kind(left.expr).per != "none":
        return None
    (a, b), first, rest = left.axes, right.axes[0], right.axes[1:]
    if first == b and axes == (a, *rest) and not set(first) & set(_flat(axes)):
        return call("matmul", left.expr, right.expr)
    if first == a and axes == (b, *rest) and not set(first) & set(_flat(axes)):
        turned = (
            left.expr.args[0]
            if isinstance(left.expr, Call) and left.expr.op == "transpose"
            else call("transpose", left.expr)
        )
        return call("matmul", turned, right.expr)
    return None


def _mul(left: _Node, right: _Node, axes: tuple[Axis, ...]) -> Expr | None:
    if right.axes == axes and left.axes == axes[: len(left.axes)]:
        return call("mul", left.expr, right.expr)
    return None


def _product(scalars: tuple[Expr, ...]) -> Expr:
    numbers = [scalar for scalar in scalars if isinstance(scalar, Number)]
    others = [scalar for scalar in scalars if not isinstance(scalar, Number)]
    literal: int | float = 1
    for number in numbers:
        literal *= number.value
    factors: list[Expr] = ([Number(literal)] if literal != 1 or not others else []) + others
    result = factors[0]
    for factor in factors[1:]:
        result = call("mul", result, factor)
    return result


Path = tuple[int, ...]


def _scale(expr: Expr, scalar: Expr, meter: Meter) -> Expr:
    """Puts a number in front of the smallest value that the expression computes on its way."""
    if scalar == Number(1):
        return expr
    path, _ = min(_factors(expr), key=lambda found: (meter.elements(found[1]), -meter.times(found[1])))
    return _scaled(expr, path, scalar)


def _factors(expr: Expr) -> list[tuple[Path, Expr]]:
    """The places that a factor of the whole may be moved to: the value itself, the operands it is linear in, and theirs."""
    found: list[tuple[Path, Expr]] = [((), expr)]
    if isinstance(expr, Call):
        operands = [i for i, arg in enumerate(expr.args) if not isinstance(arg, Text)]
        for place, i in enumerate(operands):
            if place in TABLE[expr.op].linear:
                found += [((i, *path), inner) for path, inner in _factors(expr.args[i])]
    return found


def _scaled(expr: Expr, path: Path, scalar: Expr) -> Expr:
    if not path or not isinstance(expr, Call):
        return call("mul", scalar, expr)
    args = list(expr.args)
    args[path[0]] = _scaled(args[path[0]], path[1:], scalar)
    return Call(expr.op, tuple(args), expr.options)
