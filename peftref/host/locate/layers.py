"""Group attentions into layers, and layers into stacks, by the containers they stand in and the data they read."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from peftref.host.locate.attention import Attention
from peftref.host.locate.flow import Flow
from peftref.host.observe.graph import Call, Key


@dataclass(frozen=True, slots=True)
class Layer:
    """One element of a container of layers: the call, its input and output stream, and its attentions.

    stream: position or name of the output that carries the stream of token vectors.
    """

    index: int
    call: Call
    h: int
    stream: Key
    own: Attention | None
    cross: Attention | None


@dataclass(frozen=True, slots=True)
class Pile:
    """The layers of one container, in order, with the container's path and how many elements it has."""

    path: str
    count: int
    layers: tuple[Layer, ...]

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """All attentions of the layers."""
        return tuple(found for layer in self.layers for found in (layer.own, layer.cross) if found)


def find_piles(flow: Flow, attentions: tuple[Attention, ...]) -> tuple[Pile, ...]:
    """The stacks of layers, in the order in which they run."""
    inside: dict[str, list[Attention]] = defaultdict(list)
    for attention in attentions:
        element = _element(flow, attention, attentions)
        if element is not None:
            inside[element].append(attention)
    containers: dict[str, None] = dict.fromkeys(element.rpartition(".")[0] for element in inside)
    return tuple(_pile(flow, path, inside) for path in containers)


def _element(flow: Flow, attention: Attention, attentions: tuple[Attention, ...]) -> str | None:
    """The innermost numbered module around an attention that does more than attend; the innermost one if none does."""
    numbered = _numbered(attention.attend.path)
    for path in numbered:
        if _does_more(flow, path, attentions):
            return path
    return numbered[0] if numbered else None


def _numbered(path: str) -> list[str]:
    """The prefixes of a path that end in a number, longest first."""
    parts = path.split(".")
    return [".".join(parts[: end + 1]) for end in reversed(range(len(parts))) if parts[end].isdigit() and end > 0]


def _does_more(flow: Flow, path: str, attentions: tuple[Attention, ...]) -> bool:
    graph = flow.graph
    outputs = {event for attention in attentions for event in attention.ends}
    modules = {attention.attend.path for attention in attentions}
    for event in flow.weighted - outputs:
        place = graph.calls[graph.events[event].call].path
        if _under(place, path) and not any(_under(place, module) for module in modules if _under(module, path)):
            return True
    return False


def _under(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}.")


def _pile(flow: Flow, path: str, inside: dict[str, list[Attention]]) -> Pile:
    graph = flow.graph
    count = sum(
        1 for module in graph.modules if module.rpartition(".")[0] == path and module.rpartition(".")[2].isdigit()
    )
    layers = []
    for index in range(count):
        element = f"{path}.{index}"
        call = next((call for call in graph.calls if call.path == element), None)
        found = _layer(flow, index, call, inside.get(element, [])) if call else None
        if found:
            layers.append(found)
    return Pile(path, count, tuple(layers))


def _layer(flow: Flow, index: int, call: Call, attentions: list[Attention]) -> Layer | None:
    graph = flow.graph
    stream = next(((key, value) for key, value in call.outputs.items() if graph.values[value].live), None)
    if stream is None:
        return None
    mine = [attention for attention in attentions if graph.within(attention.attend.event, call)]
    cross = [attention for attention in mine if is_cross(flow, attention, call)]
    own = sorted((each for each in mine if each not in cross), key=lambda each: not _reads_stream(flow, each, call))
    return Layer(index, call, stream[1], stream[0], own[0] if own else None, cross[0] if cross else None)


def _reads_stream(flow: Flow, attention: Attention, call: Call) -> bool:
    """Whether queries come from the first thing that enters the layer; a second stream beside it may attend as well."""
    entering = next((value for value in call.inputs.values() if flow.graph.values[value].live), None)
    return entering in flow.outside(attention.attend.query, call)


def is_cross(flow: Flow, attention: Attention, call: Call) -> bool:
    """Whether the keys come from another sequence than the queries: the two share nothing from before the layer."""
    return not flow.outside(attention.attend.query, call) & flow.outside(attention.attend.key, call)
