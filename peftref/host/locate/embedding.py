"""Find the linear maps that make token vectors: a table of one row for each token id, or a projection or convolution of patches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import prod

from peftref.host.locate.flow import Flow
from peftref.host.locate.sites import Draft
from peftref.host.observe.graph import Call, Event
from peftref.host.site import Port

_STILL = frozenset({"_to_copy", "detach", "alias"})
_NO_BIAS = frozenset({"b"})


def token_vectors(flow: Flow, source: int | None, look_up: Event | None) -> Mapping[str, Sequence[Draft] | str]:
    """The linear slots of an embedding: drafts in the order in which data flows, or the reasons why there are none.

    source: what enters the first layer.
    """
    if source is None:
        nothing = "what enters the first layer could not be followed"
        return dict.fromkeys(("embedding.tokens", "embedding.stem", "embedding.patches"), nothing)
    if look_up is not None:
        made = "the token vectors are looked up"
        tokens = _table(flow, look_up, flow.graph.calls[look_up.call])
        return {
            "embedding.tokens": tokens if isinstance(tokens, str) else (tokens,),
            "embedding.stem": made,
            "embedding.patches": made,
        }
    found = list(_maps(flow, source))
    stems = [draft for draft in reversed(found[1:]) if draft.form == "convolution"]
    return {
        "embedding.tokens": "no tokens are looked up",
        "embedding.stem": stems or "no convolution stands before it",
        "embedding.patches": found[:1] or "no module of one matrix makes the token vectors",
    }


def rows_of(flow: Flow, look_up: Call) -> int:
    """How many token ids a table has rows for."""
    return next(shape[0] for shape in flow.graph.modules[look_up.path].params.values() if len(shape) == 2)


def _table(flow: Flow, event: Event, call: Call) -> Draft | str:
    graph = flow.graph
    module, inside = graph.modules[call.path], graph.events[call.start : call.stop]
    scaled = any(other.op == "mul" for other in inside)
    strange = [other for other in inside if other is not event and other.op not in (*_STILL, "mul") and not other.moves]
    if set(module.params) != {"weight"} or strange or (scaled and not module.scales):
        return "the module of the token embedding does more than look up and scale"
    if graph.maker(call.inputs.get(0, -1)) is event or 0 not in call.inputs:
        return "the module of the token embedding is not given token ids"
    ports = {"x": Port(call.path, "input"), "h": Port(call.path, "output")}
    rows, width = module.params["weight"]
    return Draft(call.path, ports, sizes={"d_in": rows, "d_out": width}, lacks=_NO_BIAS, form="table")


def _maps(flow: Flow, source: int) -> Iterator[Draft]:
    """The modules of one matrix behind a value, nearest first."""
    often = Counter(call.path for call in flow.graph.calls)
    for event in flow.back(source, through=flow.weighted):
        call = flow.graph.calls[event.call] if event.call >= 0 else None
        if call is None or event.index not in flow.weighted or often[call.path] > 1:
            continue
        projection = flow.projections.get(event.index)
        ports = {"x": Port(call.path, "input"), "h": Port(call.path, "output")}
        bias = frozenset() if "bias" in flow.graph.modules[call.path].params else _NO_BIAS
        if projection is not None:
            sizes = {"d_in": projection.d_in, "d_out": projection.d_out}
            yield Draft(call.path, ports, sizes, bias, "transposed" if projection.transposed else "matrix")
        elif (shape := _kernels(flow, event, call)) is not None:
            yield Draft(call.path, ports, {"d_in": prod(shape[1:]), "d_out": shape[0]}, bias, "convolution")


def _kernels(flow: Flow, event: Event, call: Call) -> tuple[int, ...] | None:
    """The shape of a convolution's kernels over all channels, where it is one matrix on windows of the input: not transposed.

    One in groups is a block-diagonal matrix on whole windows. One that also keeps the length and the width is none: it adds
    positions to token vectors that others make.
    """
    params = dict(flow.graph.modules[call.path].params)
    if event.op != "convolution" or "weight" not in params or not set(params) <= {"weight", "bias"}:
        return None
    transposed, groups = event.args[6], event.args[8]
    plain = call.inputs.get(0) == event.inputs[0] and call.outputs.get(0) == event.outputs[0]
    if not plain or transposed:
        return None
    d_out, channels, *kernel = params["weight"]
    if groups > 1 and d_out == channels * groups and set(event.args[3]) == {1}:
        return None
    return (d_out, channels * groups, *kernel)
