"""Find the query, key, value and output projections of every attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from peftref.host.locate.flow import Flow, Projection
from peftref.host.locate.rows import RowTracer, as_rows
from peftref.host.observe.graph import Attend
from peftref.host.site import Rows

OWN = "attention is computed by the module itself, and not through transformers' attention interface"


@dataclass(frozen=True, slots=True)
class Part:
    """A projection, or the rows of one that serve a role; without a projection, the reason why there is none.

    product: the event of a matrix that is there but is no linear module.
    """

    projection: Projection | None
    rows: Rows | None = None
    reason: str = ""
    product: int | None = None

    @property
    def d_out(self) -> int:
        """How many rows serve the role."""
        assert self.projection is not None
        return self.projection.d_out if self.rows is None else self.rows.size


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention with its projections and head sizes. core_reason: why there is no core to be had, empty if there is.

    cached: the core is reached through the cache alone, in front of keys and values. remade: which of v and o the host changes between
    their projection and the attention function.
    """

    attend: Attend
    query: Part
    key: Part
    value: Part
    output: Part
    sizes: Mapping[str, int]
    core_reason: str = ""
    cached: bool = False
    remade: frozenset[str] = frozenset()

    @property
    def ends(self) -> tuple[int, ...]:
        """The events that end the sublayer: the product of its output projection."""
        if self.output.projection:
            return (self.output.projection.event,)
        return (self.attend.event if self.output.product is None else self.output.product,)


def find_attentions(flow: Flow) -> tuple[Attention, ...]:
    """Every attention of the graph, in the order of the calls."""
    tracer = RowTracer(flow)
    return tuple(_attention(flow, tracer, attend) for attend in flow.graph.attends)


def _attention(flow: Flow, tracer: RowTracer, attend: Attend) -> Attention:
    graph = flow.graph
    query = find_part(flow, tracer, attend.query, "the query")
    key = find_part(flow, tracer, attend.key, "the key")
    value = find_part(flow, tracer, attend.value, "the value")
    d_head, d_value = graph.shape(attend.query)[-1], graph.shape(attend.value)[-1]
    heads = _heads(attend, query, graph.shape(attend.query))
    kv_heads = _heads(attend, value, graph.shape(attend.value))
    if value.projection and value.d_out % d_value == 0:
        kv_heads = min(kv_heads, value.d_out // d_value)
    sizes = {
        "n_heads": heads,
        "n_kv_heads": kv_heads,
        "d_head": d_head,
        "d_value": d_value,
    }
    query, key, value = _apart(flow, [(attend.query, query), (attend.key, key), (attend.value, value)])
    reason = OWN if attend.own and not attend.cached else ""
    output = _output(flow, attend)
    remade = _remade(flow, attend, value, output)
    return Attention(attend, query, key, value, output, sizes, reason, attend.cached, remade)


def _remade(flow: Flow, attend: Attend, value: Part, output: Part) -> frozenset[str]:
    """Which of v and o are more than moved on the way from the value projection, or to the output projection."""
    ways = {
        "v": value.projection and (attend.value, {value.projection.h, value.projection.product}),
        "o": output.projection and (output.projection.x, {attend.output}),
    }
    return frozenset(name for name, way in ways.items() if way and not flow.moved(*way))


def _apart(flow: Flow, parts: list[tuple[int, Part]]) -> list[Part]:
    """The parts, without those whose projection goes into another part as well, of which the rows could not be followed."""
    unknown = {event for value, part in parts if not part.projection for event in flow.nearest(value)}

    def kept(part: Part) -> Part:
        projection = part.projection
        if projection is None or projection.event not in unknown:
            return part
        return Part(None, reason=f"{projection.path} makes more than one of query, key and value")

    return [kept(part) for _, part in parts]


def _heads(attend: Attend, part: Part, shape: tuple[int, ...]) -> int:
    """How many heads: the second axis of what the attention function is given; else the rows of the projection say."""
    if attend.own and part.projection and part.d_out % shape[-1] == 0:
        return part.d_out // shape[-1]
    return shape[1] if len(shape) == 4 else 1


def find_part(flow: Flow, tracer: RowTracer, value: int, what: str) -> Part:
    """The projection, and its rows, that a value comes from; where several do, the one with the largest share."""
    events = [event for event in flow.nearest(value) if event in flow.weighted]
    if not events:
        return Part(None, reason=f"no matrix makes {what}")
    projections = [flow.projections[event] for event in events if event in flow.projections]
    if not projections:
        return Part(None, reason=f"the matrix that makes {what} is not a module of its own")
    projection = max(projections, key=lambda found: tracer.share(found, value))
    chosen = tracer.reaching(projection, value)
    if not chosen:
        wide = prod(flow.graph.shape(value)) // prod(flow.graph.shape(projection.product)[:-1] or (1,))
        if wide == projection.d_out:
            return Part(projection)
        return Part(None, reason=f"which rows of {projection.path} make {what} could not be followed")
    if len(chosen) == projection.d_out:
        return Part(projection)
    rows = as_rows(chosen, projection.d_out)
    if rows is None:
        return Part(None, reason=f"the rows of {projection.path} that make {what} are no regular slice")
    return Part(projection, rows)


def _output(flow: Flow, attend: Attend) -> Part:
    """The first projection that reads what attention gave."""
    down = {attend.output}
    for event in flow.graph.events[attend.event + 1 :]:
        if not down.intersection(event.inputs):
            continue
        if event.index in flow.stops:
            if event.index in flow.projections:
                return Part(flow.projections[event.index])
            product = event.index if event.index in flow.weighted else None
            return Part(None, reason="what reads the attention's output is not a linear module", product=product)
        down.update(event.outputs)
    return Part(None, reason="no matrix reads the attention's output")
