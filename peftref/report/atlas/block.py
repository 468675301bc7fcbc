"""The transformer block of the reference architecture, with the marks of a technique at their slots, from the embedding up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from peftref.host.architecture import ARCHITECTURE
from peftref.report.atlas.canvas import Canvas, Point
from peftref.report.atlas.marks import Mark
from peftref.report.atlas.place import RAIL, Column, Place, draw

BESIDE = 44.0
"""The room to the right of the block where something is carried beside the stream."""
WIDTH, BYPASS, LEFT, RIGHT = 440.0, 22.0, 36.0, 366.0
LANES = tuple(Column(edge, 52, edge + 58, 38) for edge in (68.0, 178.0, 288.0))
CENTRE = Column(178, 104, 272, 60)
CORE = Column(178, 272, 346, 36)
SIDE = Column(178, 0, 402, 56)
NAMES = {
    "cross_attention": "cross attention, where a layer has it",
    "ffn": "feed-forward",
    "post_norm": "second norm",
    "hidden": "activation",
}


class Block:
    """Draws the block. marks: those of the technique; tuned: slots whose own parameters are trained, `*` for all."""

    def __init__(self, canvas: Canvas, marks: Sequence[Mark], tuned: Sequence[str], low: float) -> None:
        self.canvas = canvas
        self.marks = marks
        self.tuned = frozenset(tuned)
        self.numbered = len({position for mark in marks for position in mark.insertions}) > 1
        self.y = low
        self.points: dict[str, Point] = {}
        self.carried = sorted({name for mark in marks for name in mark.carried})
        self.reached = 0.0

    def draw(self) -> None:
        """The whole block."""
        self.canvas.text(CENTRE.edge, self.y, "input", "note")
        self.y += 12
        for slot in (
            slot.name for slot in ARCHITECTURE.slots if slot.name.startswith("embedding.") and slot.kind == "linear"
        ):
            self.optional(slot)
        self.rank([self.place("embedding", CENTRE)])
        self.optional("embedding.norm")
        bottom = self.y
        self.line(14)
        entering = (CENTRE.edge, self.y - 4)
        self.sublayer("attention", self.attention)
        if self.touched("cross_attention"):
            self.sublayer("cross_attention", self.attention)
        self.sublayer("ffn", self.feed_forward)
        self.rank([self.place("layer", SIDE, bare=True)], {"x": entering, "res": entering, "out": entering})
        self.canvas.frame(6, WIDTH - 6, bottom + 4, self.y + 14, "× n layers", back=True)
        self.line(20)
        self.rank([self.place("final.norm", CENTRE)])
        self.rank([self.place("head", CENTRE)])
        self.canvas.path([(CENTRE.edge, self.y - 2), (CENTRE.edge, self.y + 10)], "flow", arrow=True)
        if self.carried:
            self.canvas.path([(RAIL, bottom + 4), (RAIL, self.reached)], "give", arrow=True)
            self.canvas.text(RAIL, bottom - 10, ", ".join(self.carried), "prime")

    def sublayer(self, component: str, inner: Callable[[str], None]) -> None:
        """A norm, the frame of a sublayer with what is in it, what meets its output, and the residual sum."""
        start = self.y + 4
        self.line(8)
        self.rank([self.place(f"{component}.norm", CENTRE)])
        self.line(6)
        low = self.y
        self.points["x"] = (CENTRE.edge, low - 3)
        inner(component)
        self.optional(f"{component}.post_norm")
        self.line(16)
        self.canvas.frame(LEFT, RIGHT, low, self.y - 2, NAMES.get(component, component))
        stream = {"res": (BYPASS, self.y + 8), "out": (BYPASS, self.y + 2)}
        self.rank([self.place(component, SIDE, bare=True)], {"x": self.points["x"], **stream})
        end = self.y + 8
        self.canvas.path([(CENTRE.edge, self.y), (CENTRE.edge, end)], "flow")
        self.canvas.path(
            [(CENTRE.edge, start), (BYPASS, start), (BYPASS, end), (CENTRE.edge - 7, end)], "flow", arrow=True
        )
        self.canvas.join(CENTRE.edge, end)
        self.y = end + 7

    def attention(self, component: str) -> None:
        """Projections of queries, keys and values, attention itself, and its output projection."""
        self.split(LANES)
        self.rank(
            [
                self.place(f"{component}.{part}", lane)
                for part, lane in zip(("query", "key", "value"), LANES, strict=True)
            ]
        )
        core = self.of(f"{component}.core")
        edges = []
        for quantity, lane in zip("qkv", LANES, strict=True):
            found = [mark for mark in core if mark.quantity == quantity]
            edges.append(Place(f"{component}.core", "", lane, found, bare=True, numbered=self.numbered))
        self.rank(
            edges,
            {**self.points, **{quantity: (lane.edge, self.y + 4) for quantity, lane in zip("qkv", LANES, strict=True)}},
        )
        outer = [mark for mark in core if mark.quantity == "o"]
        read = {name for mark in outer for name in mark.reads}
        known = {
            quantity: (lane.edge, self.y - 2) for quantity, lane in zip("qkv", LANES, strict=True) if quantity in read
        }
        if outer:
            for lane in LANES:
                self.canvas.path([(lane.edge, self.y), (lane.edge, self.y + 14)], "flow")
            self.y += 14
        place = Place(f"{component}.core", "attention", CORE, outer, numbered=self.numbered)
        for lane in (LANES[0], LANES[2]):
            self.canvas.path([(lane.edge, self.y), (lane.edge, self.y + place.under())], "flow", arrow=True)
        self.rank([place], {**self.points, **known})
        self.rank([self.place(f"{component}.output", CENTRE)])

    def feed_forward(self, component: str) -> None:
        """The up projection, with a gate where one is touched, the activation, and the down projection."""
        if self.touched(f"{component}.gate"):
            self.split(LANES[:2])
            self.rank(
                [self.place(f"{component}.gate", LANES[0], optional=True), self.place(f"{component}.up", LANES[1])]
            )
            self.canvas.path(
                [(LANES[0].edge, self.y), (LANES[0].edge, self.y + 5), (LANES[1].edge, self.y + 5)], "flow"
            )
        else:
            self.rank([self.place(f"{component}.up", CENTRE)])
        self.rank([self.place(f"{component}.hidden", CENTRE)])
        self.rank([self.place(f"{component}.down", CENTRE)])

    def rank(self, places: Sequence[Place], known: dict[str, Point] | None = None) -> None:
        """Places side by side, at one height."""
        under = max(place.under() for place in places)
        height = max(place.box_height() for place in places)
        over = max(place.over() for place in places)
        for place in places:
            if place.bare and not place.marks:
                self.canvas.path([(place.column.edge, self.y), (place.column.edge, self.y + under + over)], "flow")
                continue
            draw(self.canvas, place, self.y, under, height, over, known or self.points)
            self.points[place.slot] = (place.column.edge + place.column.width / 2, self.y + under + height / 2)
        self.y += under + height + over
        if any(mark.carried for place in places for mark in place.marks):
            self.reached = self.y

    def split(self, lanes: Sequence[Column]) -> None:
        """The flow in the middle goes to several columns."""
        self.line(8)
        ends = sorted({lane.edge for lane in lanes} | {CENTRE.edge})
        self.canvas.path([(ends[0], self.y), (ends[-1], self.y)], "flow")

    def line(self, length: float) -> None:
        """The flow in the middle goes up."""
        self.canvas.path([(CENTRE.edge, self.y), (CENTRE.edge, self.y + length)], "flow")
        self.y += length

    def optional(self, slot: str) -> None:
        """A slot that is drawn where it is touched."""
        if self.touched(slot):
            self.rank([self.place(slot, CENTRE, optional=True)])

    def place(self, slot: str, column: Column, *, bare: bool = False, optional: bool = False) -> Place:
        """A slot with its marks."""
        name = slot.rpartition(".")[2]
        label = "final norm" if slot == "final.norm" else NAMES.get(name, name)
        row = ARCHITECTURE.slot(slot)
        own = any(quantity.per == "none" for quantity in ARCHITECTURE.kind(row.kind).quantities)
        tuned = own and bool(self.tuned & {"*", slot})
        return Place(slot, label, column, self.of(slot), tuned, bare, optional, self.numbered)

    def of(self, slot: str) -> list[Mark]:
        """The marks of a slot."""
        return [mark for mark in self.marks if mark.slot == slot]

    def touched(self, name: str) -> bool:
        """Whether a slot, or one of a component's, has a mark or is trained itself."""
        slots = [slot.name for slot in ARCHITECTURE.slots if name in (slot.name, slot.component)]
        return any(mark.slot in slots for mark in self.marks) or bool(self.tuned & set(slots))
