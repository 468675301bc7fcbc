"""Find the feed-forward of a layer: its down, up and gate projections and what ends it."""

from __future__ import annotations

from dataclasses import dataclass

from peftref.host.locate.attention import Part, find_part
from peftref.host.locate.flow import Flow
from peftref.host.locate.layers import Layer
from peftref.host.locate.rows import RowTracer, as_rows
from peftref.host.observe.graph import Event

STRAIGHT = frozenset(("add", "add_", "mul", "mul_", "div", "div_", "sub", "neg", "native_dropout"))


@dataclass(frozen=True, slots=True)
class FeedForward:
    """The feed-forward of a layer; parts without a projection carry the reason. ends: the events that it ends in."""

    up: Part
    gate: Part
    down: Part
    ends: tuple[int, ...]


def find_ffn(flow: Flow, layer: Layer) -> FeedForward | None:
    """The feed-forward of a layer, None where no matrix beside attention ends in the layer's output."""
    attentions = [found for found in (layer.own, layer.cross) if found]
    taken = {event for attention in attentions for event in attention.ends}
    ends = tuple(event for event in flow.nearest(layer.h, layer.call.start) if event not in taken)
    ends = tuple(event for event in ends if flow.graph.events[event].op not in ("attend", "embedding"))
    if not ends:
        return None
    if len(ends) > 1 or ends[0] not in flow.projections:
        reason = _why(flow, ends)
        return FeedForward(Part(None, reason=reason), Part(None, reason=reason), Part(None, reason=reason), ends)
    down = flow.projections[ends[0]]
    up, gate = _up_and_gate(flow, layer, down.x, taken)
    return FeedForward(up, gate, Part(down), ends)


def _why(flow: Flow, ends: tuple[int, ...]) -> str:
    if any(flow.graph.events[event].op == "experts" for event in ends) or len(ends) > 1:
        return "the feed-forward is a mixture of experts: several matrices make its output"
    return "the matrix that ends the feed-forward is not a linear module of its own"


def _up_and_gate(flow: Flow, layer: Layer, hidden: int, taken: set[int]) -> tuple[Part, Part]:
    tracer = RowTracer(flow)
    ungated = Part(None, reason="the feed-forward is not gated")
    start = layer.call.start
    events = [event for event in flow.nearest(hidden, start) if event in flow.weighted and event not in taken]
    if not events:
        return Part(None, reason="no matrix of the feed-forward is before its last"), ungated
    for product in flow.back(hidden, start):
        if product.op in ("mul", "mul_") and len(product.inputs) == 2:
            split = _split(flow, tracer, product, start)
            if split:
                first, second = split
                if _bent(flow, product.inputs[1], start) and not _bent(flow, product.inputs[0], start):
                    return first, second
                return second, first
    return find_part(flow, tracer, hidden, "ffn.hidden"), ungated


def _split(flow: Flow, tracer: RowTracer, product: Event, start: int) -> tuple[Part, Part] | None:
    """The two parts that a product multiplies, where they come from different rows or different matrices."""
    a, b = product.inputs
    behind_a, behind_b = flow.nearest(a, start), flow.nearest(b, start)
    if not (behind_a and behind_b) or not all(event in flow.projections for event in (*behind_a, *behind_b)):
        return None
    if not set(behind_a) & set(behind_b):
        return find_part(flow, tracer, a, "one factor"), find_part(flow, tracer, b, "one factor")
    if behind_a != behind_b or len(behind_a) != 1:
        return None
    projection = flow.projections[behind_a[0]]
    rows_a, rows_b = tracer.reaching(projection, a), tracer.reaching(projection, b)
    if not rows_a or not rows_b or rows_a & rows_b:
        return None
    return Part(projection, as_rows(rows_a, projection.d_out)), Part(projection, as_rows(rows_b, projection.d_out))


def _bent(flow: Flow, value: int, start: int) -> bool:
    """Whether something that is not linear stands between a value and its matrix."""
    return any(
        event.index not in flow.stops and not event.moves and event.op not in STRAIGHT
        for event in flow.back(value, start)
    )
