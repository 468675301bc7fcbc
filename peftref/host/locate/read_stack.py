"""Read one stack: what stands before its layers, the layers, what follows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peftref.host.host import Stack
from peftref.host.locate.embedding import rows_of, token_vectors
from peftref.host.locate.ends import entry, exit_path, first_input, giver, norm_after, norm_before, token_embedding
from peftref.host.locate.ffn import FeedForward, find_ffn
from peftref.host.locate.flow import Flow
from peftref.host.locate.layers import Layer, Pile
from peftref.host.locate.read_layer import LayerReader
from peftref.host.locate.sites import Draft, Writer
from peftref.host.observe.graph import Call
from peftref.host.site import Port


def read_stack(writer: Writer, pile: Pile) -> Stack:
    """Write every site of a stack but the head, and give the stack."""
    flow, graph = writer.flow, writer.flow.graph
    source = first_input(flow, pile)
    writer.samples_second = _samples_second(flow, pile)
    found = None if source is None else token_embedding(flow, source)
    look_up = graph.calls[found.call] if found else None
    base = {"d_model": graph.shape(pile.layers[0].h)[-1], "n_layers": pile.count}
    if look_up:
        base["vocab"] = rows_of(flow, look_up)
    forwards = [find_ffn(flow, layer) for layer in pile.layers]
    sizes = [base | _sizes(layer, forward) for layer, forward in zip(pile.layers, forwards, strict=True)]
    common = _common(sizes)
    before = None if source is None else norm_before(flow, source)
    for slot, drafts in token_vectors(flow, source, found).items():
        if isinstance(drafts, str):
            writer.write(slot, None, common, drafts)
            continue
        for depth, draft in enumerate(drafts):
            writer.write(slot, depth if len(drafts) > 1 else None, common, draft)
    writer.write("embedding", None, common, _embedding(flow, pile, source, look_up, before))
    reason = "no norm stands between the embedding and the first layer"
    writer.write("embedding.norm", None, common, writer.norm(before, reason))
    for layer, forward, own in zip(pile.layers, forwards, sizes, strict=True):
        LayerReader(writer, layer, own).read(forward)
    after = norm_after(flow, pile, before)
    writer.write("final.norm", None, common, writer.norm(after, "no norm follows the last layer"))
    return Stack(
        name=writer.stack,
        n_layers=pile.count,
        causal=causal(pile),
        sizes=common,
        layers_path=pile.path,
        entry=entry(flow, pile.path, model_inputs(flow, pile)),
        exit=exit_path(flow, pile, after),
    )


def _samples_second(flow: Flow, pile: Pile) -> int | None:
    """How many samples there are, where the layers hold samples and tokens the other way round than the model's input; else None."""
    held = flow.graph.shape(pile.layers[0].h)[:2]
    given = (flow.graph.shape(value)[:2] for value in model_inputs(flow, pile))
    first = next((shape for shape in given if len(shape) == 2), held)
    return first[0] if held != first and held == first[::-1] else None


def causal(pile: Pile) -> bool:
    """Whether self attention in a stack looks only back."""
    return any(layer.own.attend.causal for layer in pile.layers if layer.own)


def model_inputs(flow: Flow, pile: Pile) -> tuple[int, ...]:
    """The model's inputs that the stack's first layer depends on through its own input."""
    source = first_input(flow, pile)
    if source is None:
        return ()
    outside = flow.outside(source, flow.graph.calls[0])
    return tuple(value for value in sorted(outside) if flow.graph.values[value].source)


def _sizes(layer: Layer, forward: FeedForward | None) -> dict[str, int]:
    attention = layer.own or layer.cross
    sizes = dict(attention.sizes) if attention else {}
    if forward and forward.down.projection:
        sizes["d_ff"] = forward.down.projection.d_in
    return sizes


def _common(sizes: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The sizes on which all layers that have them agree."""
    common: dict[str, int] = {}
    for name in dict.fromkeys(name for each in sizes for name in each):
        values = {each[name] for each in sizes if name in each}
        if len(values) == 1:
            common[name] = values.pop()
    return common


_NO_MATRIX = frozenset({"E"})
"""What an embedding lacks that looks nothing up."""


def _embedding(flow: Flow, pile: Pile, source: int | None, look_up: Call | None, before: Call | None) -> Draft | str:
    """Where the token vectors come out: the token embedding, or the module whose output enters the first layer."""
    if look_up is not None:
        width = flow.graph.shape(look_up.outputs[0])[-1]
        return Draft(look_up.path, {"h": Port(look_up.path, "output")}, sizes={"d_model": width})
    if source is None:
        return "what enters the first layer could not be followed"
    first = pile.layers[0].call
    found = giver(flow, before.inputs[0] if before else source, before or first)
    if found:
        return Draft(found[0].path, {"h": Port(found[0].path, "output", found[1])}, lacks=_NO_MATRIX)
    key = next(key for key, value in first.inputs.items() if value == source)
    return Draft(first.path, {"h": Port(first.path, "input", key)}, lacks=_NO_MATRIX)
