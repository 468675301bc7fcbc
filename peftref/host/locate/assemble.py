"""Turn a graph into stacks and sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from peftref.host.architecture import ARCHITECTURE
from peftref.host.host import Stack
from peftref.host.locate.attention import Attention, Part, find_attentions
from peftref.host.locate.ends import find_head
from peftref.host.locate.flow import Flow
from peftref.host.locate.layers import Pile, find_piles
from peftref.host.locate.read_stack import causal, model_inputs, read_stack
from peftref.host.locate.sites import Writer
from peftref.host.site import Site

MODALITIES = {"pixel_values": "vision", "input_features": "audio", "input_values": "audio", "input_ids": "text"}


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What a graph shows: stacks, sites, and why slots are missing."""

    stacks: tuple[Stack, ...]
    sites: tuple[Site, ...]
    lacks: Mapping[str, str]


def read_graph(flow: Flow, attentions: tuple[Attention, ...] | None = None) -> Anatomy:
    """The anatomy of a graph; the attentions are those that the probe saw unless others are given."""
    attentions = find_attentions(flow) if attentions is None else attentions
    piles = [pile for pile in find_piles(flow, attentions) if pile.attentions]
    if not piles:
        return Anatomy((), (), {})
    names = _names(flow, piles)
    shared = _read_by_many_layers(flow, piles)
    writers = [Writer(flow, name, shared) for name in names]
    stacks = [read_stack(writer, pile) for writer, pile in zip(writers, piles, strict=True)]
    stacks = [_feeding(flow, stack, pile, piles, names) for stack, pile in zip(stacks, piles, strict=True)]
    _head(writers[-1], piles, stacks)
    sites = tuple(site for writer in writers for site in writer.sites)
    return Anatomy(tuple(stacks), sites, _lacks(writers, sites))


def _names(flow: Flow, piles: Sequence[Pile]) -> list[str]:
    """decoder: with cross attention, or alone and causal; encoder: alone and not causal, or read by it; else the modality."""
    crossed = [any(layer.cross for layer in pile.layers) for pile in piles]
    if len(piles) == 1:
        return ["decoder" if crossed[0] or causal(piles[0]) else "encoder"]
    if len(piles) == 2 and sum(crossed) == 1:
        return ["decoder" if cross else "encoder" for cross in crossed]
    names: list[str] = []
    for pile in piles:
        name = _modality(flow, pile)
        same = sum(other.rstrip("_0123456789") == name for other in names)
        names.append(f"{name}_{same + 1}" if same else name)
    return names


def _modality(flow: Flow, pile: Pile) -> str:
    sources = [flow.graph.values[value].source or "" for value in model_inputs(flow, pile)]
    if any(source.endswith("input_ids") for source in sources):
        return "text"
    return next((MODALITIES[source] for source in sources if source in MODALITIES), pile.path.split(".")[0])


def _read_by_many_layers(flow: Flow, piles: Sequence[Pile]) -> tuple[int, ...]:
    """The values that projections of more than one layer read (the sequence that cross attention looks at)."""
    readers: dict[int, set[str]] = {}
    for layer in (layer for pile in piles for layer in pile.layers):
        for event, projection in flow.projections.items():
            if flow.graph.within(event, layer.call):
                readers.setdefault(projection.x, set()).add(layer.call.path)
    return tuple(value for value, paths in sorted(readers.items()) if len(paths) > 1)


def _feeding(flow: Flow, stack: Stack, pile: Pile, piles: Sequence[Pile], names: Sequence[str]) -> Stack:
    """The stack with the name of the stack whose cross attention reads it."""
    last = pile.layers[-1].call
    for other, name in zip(piles, names, strict=True):
        crosses = [layer for layer in other.layers if layer.cross] if other is not pile else []
        for layer in crosses[:1]:
            assert layer.cross is not None
            keys = flow.outside(layer.cross.attend.key, layer.call)
            if any(
                flow.graph.within(event.index, last) for key in keys for event in flow.back(key, last.start, flow.stops)
            ):
                return replace(stack, feeds=name)
    return stack


def _head(writer: Writer, piles: Sequence[Pile], stacks: Sequence[Stack]) -> None:
    vocabularies = [stack.sizes["vocab"] for stack in reversed(stacks) if "vocab" in stack.sizes]
    projection = find_head(writer.flow, piles, vocabularies[0]) if vocabularies else None
    reason = "the model class has no projection to the vocabulary"
    draft = writer.linear(Part(projection), None) if projection else reason
    writer.write("head", None, stacks[-1].sizes, draft)


def _lacks(writers: Sequence[Writer], sites: Sequence[Site]) -> dict[str, str]:
    present = {site.slot for site in sites}
    reasons = {slot: reason for writer in reversed(writers) for slot, reason in writer.lacks.items()}
    return {slot: reasons.get(slot, _absent(slot)) for slot in ARCHITECTURE.names() if slot not in present}


def _absent(slot: str) -> str:
    if slot.startswith("cross_attention"):
        return "no layer reads another stack's sequence"
    if slot.startswith("ffn"):
        return "no matrix beside attention ends in a layer's output"
    return "no layer attends to its own sequence"
