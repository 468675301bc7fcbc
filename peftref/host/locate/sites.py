"""Write sites: from what was found in a graph to the plain data that the rest of the package reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from peftref.host.architecture import Form
from peftref.host.locate.attention import Part
from peftref.host.locate.flow import Flow
from peftref.host.observe.graph import Call
from peftref.host.site import Port, Site


@dataclass(frozen=True, slots=True)
class Draft:
    """A site without its slot, stack and layer; sizes are those that it has beside its stack's."""

    path: str
    ports: Mapping[str, Port]
    sizes: Mapping[str, int] = field(default_factory=dict)
    lacks: frozenset[str] = frozenset()
    form: Form = "matrix"
    reads: str = ""
    remade: frozenset[str] = frozenset()


@dataclass(slots=True)
class Writer:
    """Collects the sites of one stack, and the reasons for the slots that it lacks.

    shared: the values that projections of several layers read. samples_second: how many samples there are, where the layers hold
    them on the second axis.
    """

    flow: Flow
    stack: str
    shared: tuple[int, ...] = ()
    samples_second: int | None = None
    sites: list[Site] = field(default_factory=list)
    lacks: dict[str, str] = field(default_factory=dict)

    def write(self, slot: str, layer: int | None, sizes: Mapping[str, int], draft: Draft | str) -> None:
        """Add a site, or the reason why there is none."""
        if isinstance(draft, str):
            self.lacks.setdefault(slot, draft)
            return
        self.sites.append(
            Site(
                slot=slot,
                stack=self.stack,
                layer=layer,
                path=draft.path,
                sizes={**sizes, **draft.sizes},
                ports=draft.ports,
                lacks=draft.lacks,
                form=draft.form,
                reads=draft.reads,
                tokens_first=self._tokens_first(draft),
                remade=draft.remade,
            )
        )

    def _tokens_first(self, draft: Draft) -> bool:
        port = draft.ports.get("h")
        if self.samples_second is None or port is None:
            return False
        graph = self.flow.graph
        call = next(call for call in graph.calls if call.path == port.path)
        held = graph.shape((call.outputs if port.side == "output" else call.inputs)[port.key])
        return len(held) > 1 and held[1] == self.samples_second != held[0]

    def linear(self, part: Part, within: Call | None) -> Draft | str:
        """A draft of a projection, or of the rows of one that serve a role."""
        projection = part.projection
        if projection is None:
            return part.reason
        return Draft(
            path=projection.path,
            ports={"x": Port(projection.path, "input"), "h": Port(projection.path, "output", 0, part.rows)},
            sizes={"d_in": projection.d_in, "d_out": part.d_out},
            lacks=frozenset() if projection.bias else frozenset({"b"}),
            form="transposed" if projection.transposed else "matrix",
            reads=self._reads(projection.x, projection.path, within),
        )

    def norm(self, call: Call | None, reason: str) -> Draft | str:
        """A draft of a norm."""
        if call is None:
            return reason
        lacks = frozenset() if "bias" in self.flow.graph.modules[call.path].params else frozenset({"b"})
        ports = {"x": Port(call.path, "input"), "h": Port(call.path, "output")}
        return Draft(call.path, ports, sizes={"d_model": self.flow.graph.shape(call.outputs[0])[-1]}, lacks=lacks)

    def _reads(self, value: int, path: str, within: Call | None) -> str:
        """The first projection of the layer that reads a value; a number where several layers do."""
        if value in self.shared or within is None:
            return f"{self.stack}:{self.shared.index(value)}" if value in self.shared else path
        readers = (
            projection
            for _, projection in sorted(self.flow.projections.items())
            if projection.x == value and self.flow.graph.within(projection.event, within)
        )
        return next((projection.path for projection in readers), path)
