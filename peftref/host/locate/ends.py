"""Find what a stack has once: its embedding and norm before the layers, the norm after them, the head, entry and exit."""

from __future__ import annotations

from collections.abc import Sequence

from peftref.host.locate.flow import Flow, Projection
from peftref.host.locate.layers import Pile
from peftref.host.locate.norms import is_norm
from peftref.host.observe.graph import Call, Event, Key


def first_input(flow: Flow, pile: Pile) -> int | None:
    """The stream of token vectors that enters the first layer: the input of its call that its output depends on."""
    call = pile.layers[0].call
    outside = flow.outside(pile.layers[0].h, call)
    return next((value for value in call.inputs.values() if value in outside and flow.graph.values[value].live), None)


def token_embedding(flow: Flow, value: int) -> Event | None:
    """The look-up of the model's own token ids that a value comes from."""
    graph = flow.graph
    for event in flow.back(value, through=flow.weighted):
        if event.op == "embedding" and event.call >= 0:
            for index in event.inputs:
                while graph.values[index].source is None and (maker := graph.maker(index)) and maker.moves:
                    index = maker.inputs[0]
                source = graph.values[index].source
                if source and source.endswith("input_ids"):
                    return event
    return None


def norm_before(flow: Flow, value: int) -> Call | None:
    """The last norm outside the layers on the way from the embedding to a value."""
    behind = {value}.union(*(event.outputs for event in flow.back(value, through=flow.weighted)))
    found = [call for call in flow.graph.calls if behind.intersection(call.outputs.values()) and is_norm(flow, call)]
    return max(found, key=lambda call: call.closed, default=None)


def norm_after(flow: Flow, pile: Pile, before: Call | None) -> Call | None:
    """The norm that reads what the last layer gives, outside the layers."""
    last = pile.layers[-1]
    for call in flow.graph.calls:
        if call.start >= last.call.stop and call != before and is_norm(flow, call):
            chain = flow.origin(call.inputs[0], last.call.stop)
            if last.h in chain:
                return call
    return None


def giver(flow: Flow, value: int, before: Call) -> tuple[Call, Key] | None:
    """The outermost module that had returned a value (or what it is a scaling of) before a call started, and which output."""
    for same in flow.origin(value):
        giving = [call for call in flow.graph.calls[: before.index] if same in call.outputs.values()]
        giving = [call for call in giving if call.closed < before.closed and call.stop <= before.start]
        if giving:
            last = max(giving, key=lambda call: call.closed)
            return last, next(key for key, given in last.outputs.items() if given == same)
    return None


def entry(flow: Flow, layers_path: str, sources: Sequence[int]) -> str:
    """The innermost module around the layers that takes `inputs_embeds`; failing that, that is given the model's input."""
    modules = flow.graph.modules
    around = _around(layers_path)
    for path in around:
        if path in modules and "inputs_embeds" in modules[path].arguments:
            return path
    for path in around:
        for call in flow.graph.calls:
            if call.path == path and set(sources) & set(call.inputs.values()):
                return path
    return around[0]


def exit_path(flow: Flow, pile: Pile, after: Call | None) -> str:
    """The module whose output is the sequence after the last layer: the innermost one around the layers that was called.

    Where that one goes on to use its weights on the sequence (to pool it), it is the norm that follows the layers, or the last
    layer.
    """
    around = next((call for path in _around(pile.path) for call in flow.graph.calls if call.path == path), None)
    last = after or pile.layers[-1].call
    if around and any(last.stop <= event < around.stop for event in flow.weighted):
        return last.path
    return around.path if around else ""


def _around(path: str) -> list[str]:
    """The paths of the modules around a container, innermost first."""
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, -1, -1)]


def find_head(flow: Flow, piles: Sequence[Pile], vocab: int | None) -> Projection | None:
    """The projection to the vocabulary that reads what follows the last layer of the last stack."""
    after = max(pile.layers[-1].call.stop for pile in piles)
    found = [flow.projections[event] for event in sorted(flow.weighted) if event >= after and event in flow.projections]
    return next((projection for projection in reversed(found) if projection.d_out == vocab), None)
