"""Read one layer: its sublayers with their norms and projections, each to a site."""

from __future__ import annotations

from collections.abc import Mapping

from peftref.host.architecture import Form
from peftref.host.locate.attention import Attention
from peftref.host.locate.ffn import FeedForward
from peftref.host.locate.flow import Residual
from peftref.host.locate.layers import Layer
from peftref.host.locate.norms import norm_of_sum, norms_within, sublayer_norms
from peftref.host.locate.ports import output_port, stream_port
from peftref.host.locate.sites import Draft, Writer
from peftref.host.observe.graph import Call
from peftref.host.site import Port

Input = tuple[int, Port] | None


class LayerReader:
    """Goes through one layer and writes its sites. sizes: those of the layer."""

    def __init__(self, writer: Writer, layer: Layer, sizes: Mapping[str, int]) -> None:
        self._writer, self._flow, self._layer, self._sizes = writer, writer.flow, layer, sizes
        self._norms = norms_within(self._flow, layer.call)
        self._used: set[int] = set()

    def read(self, forward: FeedForward | None) -> None:
        """Write every site of the layer, the attentions in the order in which they run: a norm belongs to the first that it suits."""
        attentions = (("attention", self._layer.own), ("cross_attention", self._layer.cross))
        for slot, attention in sorted(attentions, key=lambda each: each[1].attend.event if each[1] else 0):
            if attention:
                self._attention(slot, attention)
        if forward:
            self._ffn(forward)
        call = self._layer.call
        ports = {"h": Port(call.path, "output", self._layer.stream)}
        key = next((key for key, value in call.inputs.items() if self._flow.graph.values[value].live), None)
        if key is not None:
            ports["x"] = Port(call.path, "input", key)
        self._write("layer", Draft(call.path, ports))

    def _write(self, slot: str, draft: Draft | str, sizes: Mapping[str, int] | None = None) -> None:
        self._writer.write(slot, self._layer.index, {**self._sizes, **(sizes or {})}, draft)

    def _attention(self, slot: str, attention: Attention) -> None:
        call = self._layer.call
        residual = self._flow.residual(attention.ends, call)
        entering = self._attention_input(attention)
        self._norms_of(slot, entering, residual)
        for role, part in (("query", attention.query), ("key", attention.key), ("value", attention.value)):
            self._write(f"{slot}.{role}", self._writer.linear(part, call), attention.sizes)
        form: Form = "cache" if attention.cached else "matrix"
        core = attention.core_reason or Draft(attention.attend.path, {}, form=form, remade=attention.remade)
        self._write(f"{slot}.core", core, attention.sizes)
        self._write(f"{slot}.output", self._writer.linear(attention.output, call), attention.sizes)
        self._sublayer(slot, entering, residual, attention.sizes)

    def _attention_input(self, attention: Attention) -> Input:
        """What the sublayer reads: the query projection's input, or the attention module's where projections follow each other."""
        graph = self._flow.graph
        projection = attention.query.projection
        core = graph.calls[attention.attend.call]
        if projection and projection.x in self._flow.outside(attention.attend.query, core):
            return projection.x, Port(projection.path, "input")
        outside = self._flow.outside(attention.attend.query, core)
        for key, value in core.inputs.items():
            if value in outside:
                return value, Port(core.path, "input", key)
        return (projection.x, Port(projection.path, "input")) if projection else None

    def _ffn(self, forward: FeedForward) -> None:
        call = self._layer.call
        residual = self._flow.residual(forward.ends, call)
        up, down = forward.up.projection, forward.down.projection
        entering = (up.x, Port(up.path, "input")) if up else self._module_input(residual)
        self._norms_of("ffn", entering, residual)
        self._write("ffn.gate", self._writer.linear(forward.gate, call))
        self._write("ffn.up", self._writer.linear(forward.up, call))
        self._write("ffn.hidden", Draft(down.path, {"h": Port(down.path, "input")}) if down else forward.down.reason)
        self._write("ffn.down", self._writer.linear(forward.down, call))
        self._sublayer("ffn", entering, residual, {})

    def _module_input(self, residual: Residual | None) -> Input:
        """The first live input of the module that gives what enters the residual sum."""
        port = residual and output_port(self._flow, residual.operand, self._layer.call)
        if not port:
            return None
        graph = self._flow.graph
        call = next(call for call in graph.calls[self._layer.call.index :] if call.path == port.path)
        live = ((key, value) for key, value in call.inputs.items() if graph.values[value].live)
        return next(((value, Port(port.path, "input", key)) for key, value in live), None)

    def _norms_of(self, slot: str, entering: Input, residual: Residual | None) -> None:
        flow, start = self._flow, self._layer.call.start
        x = entering[0] if entering else None
        free: list[Call] = [call for call in self._norms if call.index not in self._used]
        first, second = sublayer_norms(flow, free, x, residual, start)
        chain = () if x is None else flow.origin(x, start)
        shares = any(call.index in self._used and call.outputs[0] in chain for call in self._norms)
        reason = "it reads what another sublayer's norm gives" if shares else "the sublayer has no norm of its own"
        self._write(f"{slot}.norm", self._writer.norm(first, reason))
        self._write(f"{slot}.post_norm", self._writer.norm(second, "the sublayer has no second norm"))
        self._used.update(call.index for call in (first, second) if call)

    def _sublayer(self, slot: str, entering: Input, residual: Residual | None, sizes: Mapping[str, int]) -> None:
        if residual is None:
            self._write(slot, "no residual sum follows it")
            return
        port = output_port(self._flow, residual.operand, self._layer.call)
        if port is None:
            self._write(slot, "what enters its residual sum is not the output of a module")
            return
        ports = {"h": port} if entering is None else {"x": entering[1], "h": port}
        stream = stream_port(self._flow, residual, port, self._layer.call)
        if stream is not None:
            ports["res"] = stream
            after = norm_of_sum(self._flow, self._norms, residual)
            ports |= {"out": Port(after.path, "output")} if after else {}
        self._write(slot, Draft(port.path, ports), sizes)
