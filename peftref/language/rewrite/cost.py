"""What an expression costs at a load: operations forward and backward, numbers written, numbers kept for backward."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from peftref.host.architecture import ARCHITECTURE
from peftref.language.einsum import parse_pattern
from peftref.language.expr import Call, Expr, Name, Text
from peftref.language.ops import TABLE
from peftref.language.scope import Leaf, Scope

FLOPS_PER_ELEMENT = 24
"""How many operations of a matrix product take as long as writing one number and reading it back (measured, see benchmarks)."""
LARGE = 1 << 23
"""Numbers above which a value gets memory that was not used before, on a CPU: each page of it must be got first."""
FLOPS_PER_FRESH = 450
"""How many operations of a matrix product take as long as writing one number of such a value (measured, 5 ns)."""


@dataclass(frozen=True, slots=True)
class Load:
    """Under which conditions an expression runs: tokens in the batch, tokens in a sequence, and the names that need a gradient."""

    tokens: int = 512
    length: int = 64
    learning: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Cost:
    """flops: forward; backward: flops backward; elements: numbers written, both ways; saved: numbers kept for backward.

    fresh: those of the numbers written that are of very large values.
    """

    flops: int = 0
    backward: int = 0
    elements: int = 0
    saved: int = 0
    fresh: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops,
            self.backward + other.backward,
            self.elements + other.elements,
            self.saved + other.saved,
            self.fresh + other.fresh,
        )

    def __sub__(self, other: Cost) -> Cost:
        return Cost(
            self.flops - other.flops,
            self.backward - other.backward,
            self.elements - other.elements,
            self.saved - other.saved,
            self.fresh - other.fresh,
        )

    @property
    def score(self) -> int:
        """One number to choose by: all operations, and the numbers written as if they were operations."""
        return self.flops + self.backward + FLOPS_PER_ELEMENT * self.elements + FLOPS_PER_FRESH * self.fresh


@dataclass(frozen=True)
class Meter:
    """Measures expressions of one scope, with its sizes as numbers, at one load. given: values that are there at no cost.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.scope import Leaf, scope_at
    >>> from peftref.language.read_size import parse_size
    >>> scope = scope_at("attention.query", {"A": Leaf("A", (parse_size("r"), parse_size("d_in")))}, {"r": 8})
    >>> Meter(scope, {"r": 8, "d_in": 100, "d_out": 100}, Load(tokens=10)).cost(parse_expression("A @ x")).flops
    16000
    """

    scope: Scope
    sizes: Mapping[str, int]
    load: Load
    given: frozenset[Expr] = frozenset()
    _shapes: dict[Expr, tuple[int, ...]] = field(default_factory=dict, compare=False, repr=False)
    _costs: dict[Expr, Cost] = field(default_factory=dict, init=False, compare=False, repr=False)
    _nodes: dict[Expr, tuple[Cost, tuple[Expr, ...]]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @staticmethod
    def training(scope: Scope, leaves: Iterable[Leaf], numbers: Mapping[str, object], load: Load) -> Meter:
        """What measures while leaves are trained, and all that is read of the input needs a gradient as well; an id has none.

        numbers: sizes and settings.
        """
        trained = {leaf.name for leaf in leaves if leaf.trainable}
        inputs = {name for name, one in scope.entries.items() if one.role == "quantity" and one.kind.per != "none"}
        if ARCHITECTURE.slot(scope.slot).lookup:
            inputs.discard("x")
        sizes = {name: value for name, value in numbers.items() if isinstance(value, int)}
        return Meter(scope, sizes, Load(load.tokens, load.length, frozenset(trained | inputs)))

    def cost(self, expr: Expr) -> Cost:
        """The cost of an expression, equal parts counted once."""
        known = self._costs.get(expr)
        if known is None:
            kept: set[Expr] = set()
            total = self._cost(expr, set(), kept)
            known = self._costs[expr] = replace(total, saved=sum(self.elements(node) for node in kept))
        return known

    def kept(self, expr: Expr) -> frozenset[Expr]:
        """The values that are kept for backward."""
        kept: set[Expr] = set()
        self._cost(expr, set(), kept)
        return frozenset(kept)

    def elements(self, expr: Expr) -> int:
        """How many numbers the value of an expression has, over all tokens."""
        return (1 if self.unit(expr) else prod(self.shape(expr))) * self.times(expr)

    def unit(self, expr: Expr) -> bool:
        """Whether a value is a unit vector per token, which is kept as its position: x of a look-up."""
        match expr:
            case Call("dropout", args):
                return self.unit(args[0])
            case Call("mul", (left, right)) if not self.scope.kind(left).dims:
                return self.unit(right)
        return expr == Name("x") and ARCHITECTURE.slot(self.scope.slot).lookup

    def shape(self, expr: Expr) -> tuple[int, ...]:
        """The shape of a value, without its implicit axes."""
        known = self._shapes.get(expr)
        if known is None:
            known = self._shapes[expr] = self.scope.kind(expr).evaluate(self.sizes)
        return known

    def times(self, expr: Expr) -> int:
        """How many copies the implicit axes make of a value."""
        per = self.scope.kind(expr).per
        return {"none": 1, "sample": max(1, self.load.tokens // self.load.length), "token": self.load.tokens}[per]

    def learns(self, expr: Expr) -> bool:
        """Whether a gradient flows into a value."""
        match expr:
            case Name(name):
                return name in self.load.learning
            case Call(op, args):
                return any(self.learns(arg) for i, arg in enumerate(args) if i not in TABLE[op].still)
        return False

    def _cost(self, expr: Expr, seen: set[Expr], kept: set[Expr]) -> Cost:
        if not isinstance(expr, Call) or expr in seen or expr in self.given:
            return Cost()
        seen.add(expr)
        op, total = TABLE[expr.op], Cost()
        fixed = replace(self, load=replace(self.load, learning=frozenset())) if op.still else self
        for i, arg in enumerate(expr.args):
            if i not in op.aside:
                total += (fixed if i in op.still else self)._cost(arg, seen, kept)
            elif self.learns(expr):  # a function of the gradient, which is computed in backward and keeps nothing
                back = fixed._cost(arg, set(), set())
                total += Cost(0, back.flops, back.elements, fresh=back.fresh)
        own, keeps = self._node(expr)
        kept.update(keeps)
        return total + own

    def _node(self, expr: Call) -> tuple[Cost, tuple[Expr, ...]]:
        """What a node costs beside its operands, and which of these are kept for backward."""
        known = self._nodes.get(expr)
        if known is None:
            known = self._nodes[expr] = self._measured(expr)
        return known

    def _measured(self, expr: Call) -> tuple[Cost, tuple[Expr, ...]]:
        kind = self.scope.kind(expr)
        if not kind.dims and kind.per == "none":
            return Cost(), ()
        op, kept = TABLE[expr.op], []
        operands = [arg for arg in expr.args if not isinstance(arg, Text)]
        needing = [i for i, arg in enumerate(operands) if self.learns(arg) and i not in op.aside]
        flops = self._flops(expr, operands)
        moved = 0 if op.view else self.elements(expr)
        for i, arg in enumerate(operands):
            others = [j for j in needing if j != i]
            kind = self.scope.kind(arg)
            activation = kind.per != "none" or (isinstance(arg, Call) and bool(kind.dims))
            product = len(op.linear & set(range(len(operands)))) > 1
            if activation and ((product and others) or (not op.linear and not op.additive and needing)):
                kept.append(arg)
        outer = (op.elementwise and op.linear) or (op.pattern and not flops)
        written = moved * (1 + (len(needing) if outer else bool(needing)))
        backward = op.backward(flops, frozenset(needing)) if op.backward else flops * len(needing)
        return Cost(flops, backward, written, fresh=written if moved > LARGE else 0), tuple(kept)

    def _flops(self, expr: Call, operands: Sequence[Expr]) -> int:
        times = self.times(expr)
        if isinstance(expr.args[0], Text):
            axes = self.scope.axes(expr)
            if len(axes) == len(self.shape(expr)):
                return 0
            widest = max(self.times(arg) for arg in operands)
            met = [size.evaluate(self.sizes) for name, size in axes.items() if name not in _alone(expr.args[0].value)]
            return 2 * prod(met) * widest * (len(operands) - 1)
        if expr.op == "matmul" and self.unit(operands[1]):
            return 0
        rule, shapes = TABLE[expr.op].flops, tuple(self.shape(arg) for arg in operands)
        return rule(shapes, self.shape(expr), self.load.length) * times if rule else 0


def _alone(pattern: str) -> frozenset[str]:
    """The axes that one operand of two has for itself and the result has not: summed over before the product, as torch does."""
    parsed = parse_pattern(pattern)
    if len(parsed.operands) != 2:
        return frozenset()
    first, second = ({name for axis in axes for name in axis} for axes in parsed.operands)
    return frozenset((first ^ second) - {name for axis in parsed.result for name in axis})
