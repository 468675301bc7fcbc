"""Which rows of a projection reach a value: the operators between them are run again on row numbers."""

from __future__ import annotations

from math import gcd
from typing import Any

import torch

from peftref.host.locate.flow import Flow, Projection
from peftref.host.observe.graph import Event, Ref
from peftref.host.site import Rows

UNKNOWN = -1.0


class RowTracer:
    """Follows the rows of projections through a graph; what was worked out is kept."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._known: dict[tuple[int, int], torch.Tensor | None] = {}

    def reaching(self, projection: Projection, value: int) -> frozenset[int]:
        """The rows of a projection that reach a value by moves and element-wise operators; empty where that is not known."""
        numbers = self._numbers(projection, value)
        if numbers is None:
            return frozenset()
        there = torch.zeros(projection.d_out + 1, dtype=torch.bool)
        there[numbers.flatten().long()] = True  # what is not known is the last
        return frozenset(there[:-1].nonzero().flatten().tolist())

    def share(self, projection: Projection, value: int) -> float:
        """The part of a value's elements that are known to come from a projection."""
        numbers = self._numbers(projection, value)
        return 0.0 if numbers is None else float((numbers >= 0).double().mean())

    def _numbers(self, projection: Projection, value: int) -> torch.Tensor | None:
        key = (projection.event, value)
        if key not in self._known:
            self._known[key] = self._follow(projection, value)
        return self._known[key]

    def _follow(self, projection: Projection, value: int) -> torch.Tensor | None:
        graph = self._flow.graph
        if value == projection.product:
            return torch.arange(projection.d_out, dtype=torch.float64).expand(graph.shape(value))
        maker = graph.maker(value)
        if maker is None or maker.index <= projection.event or maker.index in self._flow.stops:
            return None
        parts = {other: self._numbers(projection, other) for other in dict.fromkeys(maker.inputs)}
        known = {other: part for other, part in parts.items() if part is not None}
        if not known:
            return None
        if maker.op == "overwritten":
            return self._overwritten(maker, known)
        if maker.op == "copy_":
            part = known.get(maker.inputs[-1])
            return None if part is None else part.expand(graph.shape(value))
        if maker.moves:
            return self._replay(maker, value, known)
        return _element_wise(list(known.values()), graph.shape(value))

    def _replay(self, maker: Event, value: int, known: dict[int, torch.Tensor]) -> torch.Tensor | None:
        if maker.op == "_to_copy":
            return next(iter(known.values()))
        graph = self._flow.graph

        def fill(tree: Any) -> Any:
            if isinstance(tree, Ref):
                found = known.get(tree.value)
                return torch.full(graph.shape(tree.value), UNKNOWN, dtype=torch.float64) if found is None else found
            if isinstance(tree, (list, tuple)):
                return [fill(item) for item in tree]
            return tree

        try:
            assert maker.func is not None
            result = maker.func(*fill(maker.args), **{name: fill(item) for name, item in maker.kwargs.items()})
        except (RuntimeError, NotImplementedError):
            return None
        found = result if isinstance(result, torch.Tensor) else result[graph.values[value].output]
        return found if isinstance(found, torch.Tensor) else None

    def _overwritten(self, maker: Event, known: dict[int, torch.Tensor]) -> torch.Tensor | None:
        """A tensor into a view of which something was written: the views are taken again, and the rows written there."""
        graph = self._flow.graph
        whole, written = maker.inputs
        writer = graph.maker(written)
        chain: list[Event] = []
        step = graph.maker(writer.inputs[0]) if writer else None
        while step is not None and step.moves and len(step.inputs) == 1:
            chain.append(step)
            if step.inputs[0] == whole:
                break
            step = graph.maker(step.inputs[0])
        if not chain or chain[-1].inputs[0] != whole:
            return None
        base = torch.full(graph.shape(whole), UNKNOWN, dtype=torch.float64)
        base = known[whole].clone() if whole in known else base
        view: torch.Tensor | None = base
        for event in reversed(chain):
            view = None if view is None else self._replay(event, event.outputs[0], {event.inputs[0]: view})
        if view is None:
            return None
        view.copy_(known.get(written, torch.tensor(UNKNOWN, dtype=torch.float64)))
        return base


def _element_wise(parts: list[torch.Tensor], shape: tuple[int, ...]) -> torch.Tensor | None:
    for part in parts:
        if tuple(part.shape) == shape:
            return part
    for part in parts:
        try:
            return part.expand(shape)
        except RuntimeError:
            continue
    return None


def as_rows(chosen: frozenset[int], total: int) -> Rows | None:
    """The rows as one slice of the fused axis, or of an axis that it splits into; None where they are no such slice.

    >>> as_rows(frozenset({4, 5, 6, 7}), 8)
    Rows(shape=(8,), axis=0, start=4, stop=8)
    >>> as_rows(frozenset({2, 3, 8, 9}), 12)
    Rows(shape=(2, 3, 2), axis=1, start=1, stop=2)
    """
    if not chosen:
        return None
    ordered = sorted(chosen)
    first, run = ordered[0], 1
    while run < len(ordered) and ordered[run] == first + run:
        run += 1
    if run == len(ordered):
        return Rows((total,), 0, first, first + run)
    period = ordered[run] - first
    if total % period or first + run > period:
        return None
    groups = total // period
    if ordered != [first + group * period + row for group in range(groups) for row in range(run)]:
        return None
    step = gcd(gcd(first, run), period)
    return Rows((groups, period // step, step), 1, first // step, (first + run) // step)
