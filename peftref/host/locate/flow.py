"""Walks along a graph: which weights are behind a value, what descends from an event, where a residual sum is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass
from functools import cached_property

from peftref.host.observe.graph import Call, Event, Graph

MATMULS = frozenset(("mm", "addmm", "bmm", "baddbmm", "addbmm", "matmul", "linear", "convolution", "_grouped_mm"))
SWAPS = frozenset(("t", "transpose", "permute"))


@dataclass(frozen=True, slots=True)
class Projection:
    """A module that is a linear map: path, the event of its product, its input and output, and how its weight is stored.

    x: [..., d_in]. h: [..., d_out]. product: the bare product, before views and a bias added apart.
    """

    event: int
    path: str
    x: int
    h: int
    product: int
    d_in: int
    d_out: int
    transposed: bool
    bias: bool


@dataclass(frozen=True, slots=True)
class Residual:
    """A residual sum: its event, the sublayer's operand, the stream that it is added to, and the sum."""

    event: int
    operand: int
    stream: int
    total: int


class Flow:
    """A graph with what the walks need worked out once."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @cached_property
    def matrices(self) -> tuple[frozenset[str], ...]:
        """Per value: the matrices (parameters of two or more axes) that a value without live part was made of."""
        none: frozenset[str] = frozenset()
        made: list[frozenset[str]] = []
        for value in self.graph.values:
            made.append(frozenset([value.param]) if value.param and len(value.shape) > 1 else none)
        for event in self.graph.events:
            behind = none.union(*(made[i] for i in event.inputs if not self.graph.values[i].live))
            for output in event.outputs:
                if behind and not self.graph.values[output].live:
                    made[output] = behind
        return tuple(made)

    @cached_property
    def weighted(self) -> frozenset[int]:
        """The events in which something live meets a matrix of parameters."""
        values = self.graph.values
        return frozenset(
            event.index
            for event in self.graph.events
            if event.op in MATMULS
            and any(values[i].live for i in event.inputs)
            and any(self.matrices[i] for i in event.inputs)
        )

    @cached_property
    def stops(self) -> frozenset[int]:
        """The events at which a walk ends: weights, attention, experts, and the look-up of embeddings."""
        ends = ("attend", "experts", "embedding")
        return self.weighted | {event.index for event in self.graph.events if event.op in ends}

    @cached_property
    def projections(self) -> dict[int, Projection]:
        """The projections, by the event of their product."""
        found = {event: self._projection(self.graph.events[event]) for event in self.weighted}
        return {event: projection for event, projection in found.items() if projection}

    def _projection(self, event: Event) -> Projection | None:
        if event.call < 0:
            return None
        call = self.graph.calls[event.call]
        module = self.graph.modules[call.path]
        inside = [other for other in range(call.start, call.stop) if other in self.weighted]
        matrices = [name for name, shape in module.params.items() if len(shape) > 1]
        if inside != [event.index] or len(matrices) != 1 or 0 not in call.inputs or 0 not in call.outputs:
            return None
        x, h = call.inputs[0], call.outputs[0]
        shape = module.params[matrices[0]]
        d_in, d_out = self.graph.shape(x)[-1], self.graph.shape(h)[-1]
        if module.bare:
            d_in, d_out = shape if module.bare == "transposed" else shape[::-1]
        if sorted(shape) != sorted((d_in, d_out)):
            return None
        weight = next(i for i in event.inputs if self.matrices[i])
        return Projection(
            event.index,
            call.path,
            x,
            h,
            event.outputs[0],
            d_in,
            d_out,
            module.bare == "transposed" if module.bare else not self._swapped(weight),
            "bias" in module.params,
        )

    def _swapped(self, value: int) -> bool:
        """Whether a view of a matrix has its two axes swapped."""
        swapped, maker = False, self.graph.maker(value)
        while maker is not None and maker.moves:
            swapped ^= maker.op in SWAPS
            maker = self.graph.maker(maker.inputs[0])
        return swapped

    @cached_property
    def users(self) -> dict[int, tuple[int, ...]]:
        """The events that read a value."""
        users: dict[int, list[int]] = defaultdict(list)
        for event in self.graph.events:
            for value in event.inputs:
                users[value].append(event.index)
        return {value: tuple(events) for value, events in users.items()}

    def nearest(self, value: int, start: int = -1) -> tuple[int, ...]:
        """The nearest weights, attentions and embeddings behind a value, walking back no further than event `start`."""
        found: dict[int, None] = {}
        for event in self.back(value, start):
            if event.index in self.stops:
                found[event.index] = None
        return tuple(found)

    def back(self, value: int, start: int = -1, through: frozenset[int] = frozenset()) -> Iterable[Event]:
        """The events behind a value, nearest first; a stop is given but not walked through, unless it is in `through`."""
        seen = {value}
        queue = [value]
        while queue:
            maker = self.graph.maker(queue.pop(0))
            if maker is None or maker.index < start:
                continue
            yield maker
            if maker.index in self.stops and maker.index not in through:
                continue
            for other in maker.inputs:
                if other not in seen and self.graph.values[other].live:
                    seen.add(other)
                    queue.append(other)

    def outside(self, value: int, call: Call) -> frozenset[int]:
        """The live values from before a call that a value inside it depends on, through everything."""
        found, seen, queue = set(), {value}, [value]
        while queue:
            current = queue.pop()
            maker = self.graph.maker(current)
            if maker is None or maker.index < call.start:
                found.add(current)
                continue
            for other in maker.inputs:
                if other not in seen and self.graph.values[other].live:
                    seen.add(other)
                    queue.append(other)
        return frozenset(found)

    def origin(self, value: int, start: int = -1) -> tuple[int, ...]:
        """A value and those that it is a mere copy, view or scaling of, nearest first: one live operand of the same size."""
        chain = [value]
        while True:
            maker = self.graph.maker(chain[-1])
            if maker is None or maker.index < start or maker.index in self.stops:
                return tuple(chain)
            live = {other for other in maker.inputs if self.graph.values[other].live}
            if len(live) != 1 or not (maker.moves or maker.op in ("mul", "div", "native_dropout")):
                return tuple(chain)
            chain.append(live.pop())
            if self.graph.shape(chain[-1])[-1:] != self.graph.shape(value)[-1:]:
                return tuple(chain[:-1])

    def moved(self, value: int, origins: Set[int]) -> bool:
        """Whether a value is one of some others, only moved: copied, viewed in another shape, or cut."""
        while value not in origins:
            maker = self.graph.maker(value)
            live = {other for other in maker.inputs if self.graph.values[other].live} if maker else set()
            if maker is None or not maker.moves or len(live) != 1:
                return False
            value = live.pop()
        return True

    def residual(self, ends: Iterable[int], call: Call) -> Residual | None:
        """The first sum in a call of what descends from some events with something live that does not."""
        ends = sorted(ends)
        if not ends:
            return None
        down = {output for event in ends for output in self.graph.events[event].outputs}
        for event in self.graph.events[ends[0] + 1 : call.stop]:
            hit = [value for value in event.inputs if value in down]
            if not hit or event.index in self.stops:
                continue
            if event.op in ("add", "add_") and len(event.inputs) == 2 and len(set(hit)) == 1:
                other = event.inputs[0] if event.inputs[1] == hit[0] else event.inputs[1]
                same = self.graph.shape(other) == self.graph.shape(hit[0])
                if same and other not in down and self.graph.values[other].live:
                    return Residual(event.index, hit[0], other, event.outputs[0])
            down.update(event.outputs)
        return None
