"""Find normalisations by where they stand in the flow of a sublayer or a stack."""

from __future__ import annotations

from collections.abc import Iterable

from peftref.host.locate.flow import Flow, Residual
from peftref.host.locate.ports import calls_within
from peftref.host.observe.graph import Call


def is_norm(flow: Flow, call: Call) -> bool:
    """Whether a call is of a module with a gain and perhaps a shift, and does more than scale."""
    graph = flow.graph
    params = graph.modules[call.path].params
    if "weight" not in params or not set(params) <= {"weight", "bias"} or any(len(s) != 1 for s in params.values()):
        return False
    if 0 not in call.inputs or 0 not in call.outputs or graph.shape(call.outputs[0])[-1:] != params["weight"]:
        return False
    return any(event.op not in ("mul", "add", "_to_copy") for event in graph.events[call.start : call.stop])


def norms_within(flow: Flow, call: Call) -> tuple[Call, ...]:
    """The norms called within a call, in order."""
    return tuple(other for other in calls_within(flow, call) if is_norm(flow, other))


def sublayer_norms(
    flow: Flow, norms: Iterable[Call], x: int | None, residual: Residual | None, start: int
) -> tuple[Call | None, Call | None]:
    """The norm of a sublayer, and a second one: before it, after the residual sum, or on what it gives to the sum."""
    norms = list(norms)
    before = _giving(norms, () if x is None else flow.origin(x, start))
    if residual is None:
        return before, None
    after = norm_of_sum(flow, norms, residual)
    on_output = _giving(norms, flow.origin(residual.operand, start))
    if before:
        return before, on_output
    return (after, on_output) if after else (on_output, None)


def norm_of_sum(flow: Flow, norms: Iterable[Call], residual: Residual) -> Call | None:
    """The norm that reads a residual sum and lets nothing else read it, as where norms follow the sums."""
    return next((norm for norm in norms if norm.inputs[0] == residual.total and _only(flow, norm)), None)


def _only(flow: Flow, norm: Call) -> bool:
    """Whether nothing but a norm reads its input: then the stream goes on from the norm's output."""
    return all(flow.graph.within(event, norm) for event in flow.users[norm.inputs[0]])


def _giving(norms: list[Call], values: tuple[int, ...]) -> Call | None:
    for value in values:
        for norm in norms:
            if norm.outputs[0] == value:
                return norm
    return None
