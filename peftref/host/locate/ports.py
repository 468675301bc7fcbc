"""Where a value can be had from a module: a side of a call, for hooks."""

from __future__ import annotations

from collections import Counter

from peftref.host.locate.flow import Flow, Residual
from peftref.host.observe.graph import Call
from peftref.host.site import Port


def output_port(flow: Flow, value: int, call: Call) -> Port | None:
    """The last module to return within a call (not the call itself) that gives out a value, or what it is a scaling of.

    A module that is called more than once in the call is passed over: a hook on it would not know which call is meant.
    """
    inner = [other for other in calls_within(flow, call) if other.index != call.index]
    often = Counter(other.path for other in inner)
    for same in flow.origin(value, call.start):
        giving = [other for other in inner if often[other.path] == 1 and same in other.outputs.values()]
        if giving:
            last = max(giving, key=lambda other: other.closed)
            key = next(key for key, given in last.outputs.items() if given == same)
            return Port(last.path, "output", key)
    return None


def input_port(flow: Flow, value: int, call: Call) -> Port | None:
    """The first module called within a call that reads a value; the module of the call itself where none does."""
    for other in (*calls_within(flow, call)[1:], call):
        for key, given in other.inputs.items():
            if given == value:
                return Port(other.path, "input", key)
    return None


def stream_port(flow: Flow, residual: Residual, given: Port, call: Call) -> Port | None:
    """Where the stream is to be had that a sublayer's output is added to; given: where the output is.

    Where sublayers stand side by side, it is the stream that all of them are added to. None where the output is scaled first.
    """
    graph = flow.graph
    output = next(other for other in calls_within(flow, call) if other.path == given.path).outputs[given.key]
    chain = flow.origin(residual.operand, call.start)
    makers = [graph.maker(value) for value in chain[: chain.index(output)]]
    if any(maker is not None and not maker.moves for maker in makers):
        return None
    others, total = [residual.stream], residual.total
    while len(users := flow.users.get(total, ())) == 1 and users[0] < call.stop:
        event = graph.events[users[0]]
        if event.op not in ("add", "add_"):
            break
        others += [value for value in event.inputs if value != total]
        total = event.outputs[0]
    entering = [value for value in others if value in call.inputs.values()]
    return input_port(flow, entering[0] if entering else others[-1], call) if len(others) == 1 or entering else None


def calls_within(flow: Flow, call: Call) -> list[Call]:
    """A call and the calls made inside it, in the order in which they started."""
    found = []
    for other in flow.graph.calls[call.index :]:
        if other.closed > call.closed:
            break
        found.append(other)
    return found
