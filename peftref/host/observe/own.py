"""Attention that a model computes on its own: found in the graph by its shape, two products of live values with a softmax between.

Each is written into the graph as one event `attend`, as if it had passed through transformers' attention interface.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import replace

from peftref.host.observe.graph import Attend, Event, Graph

SOFTMAX = frozenset(("_softmax", "_safe_softmax"))
PRODUCTS = frozenset(("bmm", "baddbmm", "matmul", "mm"))
FAR = 60
"""How many operators may stand between a softmax and the products before and behind it."""


def with_own_attention(graph: Graph, causal: frozenset[int] = frozenset()) -> Graph:
    """The graph with its own attentions written as events `attend`.

    causal: the values known to be masks that let a token see only those before it.
    """
    events = list(graph.events)
    users = _users(graph)
    found: dict[int, Attend] = {}
    for event in graph.events:
        if event.op in SOFTMAX and graph.values[event.outputs[0]].live:
            attend = _attention(graph, users, event, causal)
            if attend and attend.event not in found:
                found[attend.event] = attend
    for index, attend in found.items():
        reads = (attend.query, attend.key, attend.value)
        events[index] = replace(events[index], op="attend", func=None, args=(), kwargs={}, inputs=reads)
    attends = sorted((*graph.attends, *found.values()), key=lambda attend: attend.event)
    return replace(graph, events=tuple(events), attends=tuple(attends))


def _attention(graph: Graph, users: Mapping[int, list[int]], softmax: Event, causal: frozenset[int]) -> Attend | None:
    scores, seen = _scores(graph, softmax)
    mixed = _mixed(graph, users, softmax)
    if scores is None or mixed is None:
        return None
    event, value = mixed
    query, key = _operands(scores)
    if value in (query, key) or not all(graph.values[operand].live for operand in (query, key, value)):
        return None
    looks_back = True if seen & causal else None
    path = graph.calls[event.call].path if event.call >= 0 else ""
    return Attend(event.index, event.call, path, query, key, value, event.outputs[0], looks_back, own=True)


def _scores(graph: Graph, softmax: Event) -> tuple[Event | None, frozenset[int]]:
    """The first product of two live values behind a softmax, and the values without live part met on the way."""
    met: set[int] = set()
    queue, steps = list(softmax.inputs), 0
    seen = set(queue)
    while queue and steps < FAR:
        value, steps = queue.pop(0), steps + 1
        maker = graph.maker(value)
        if not graph.values[value].live:
            met.add(value)
        if maker is None or maker.op in ("attend", "experts", *SOFTMAX):
            continue
        if maker.op in PRODUCTS:
            query, key = _operands(maker)
            if graph.values[query].live and graph.values[key].live:
                return maker, frozenset(met)
            continue
        for other in maker.inputs:
            if other not in seen:
                seen.add(other)
                queue.append(other)
    return None, frozenset(met)


def _mixed(graph: Graph, users: Mapping[int, list[int]], softmax: Event) -> tuple[Event, int] | None:
    """The first product that reads what a softmax gave, with its other operand."""
    down = {softmax.outputs[0]}
    for steps, event in enumerate(_readers(graph, users, softmax.outputs[0])):
        if steps > FAR or event.op in ("attend", "experts", "convolution"):
            return None
        if event.op in PRODUCTS:
            first, second = _operands(event)
            if (first in down) == (second in down):
                return None
            other = second if first in down else first
            return (event, other) if graph.values[other].live else None
        down.update(event.outputs)
    return None


def _readers(graph: Graph, users: Mapping[int, list[int]], value: int) -> Iterator[Event]:
    """The events downstream of a value, in the order in which they happened."""
    heap = list(users.get(value, ()))
    heapq.heapify(heap)
    done: set[int] = set()
    while heap:
        index = heapq.heappop(heap)
        if index not in done:
            done.add(index)
            event = graph.events[index]
            yield event
            for output in event.outputs:
                for user in users.get(output, ()):
                    heapq.heappush(heap, user)


def _operands(product: Event) -> tuple[int, int]:
    return product.inputs[-2], product.inputs[-1]


def _users(graph: Graph) -> dict[int, list[int]]:
    users: dict[int, list[int]] = {}
    for event in graph.events:
        for value in event.inputs:
            users.setdefault(value, []).append(event.index)
    return users
