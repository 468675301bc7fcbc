"""Where a value can be had from a module: a side of a call, for hooks."""

from __future__ import annotations

from collections import Counter

from peftref.host.flow import Flow
from peftref.host.graph import Call
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
    """The first module called within a call that reads a value."""
    for other in calls_within(flow, call):
        for key, given in other.inputs.items():
            if given == value and other.index != call.index:
                return Port(other.path, "input", key)
    return None


def calls_within(flow: Flow, call: Call) -> list[Call]:
    """A call and the calls made inside it, in the order in which they started."""
    found = []
    for other in flow.graph.calls[call.index :]:
        if other.closed > call.closed:
            break
        found.append(other)
    return found
