"""One slot in a drawing: its box on an edge of the flow, the modules beside it, and what they read and set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from peftref.language.typeset.letters import GREEK
from peftref.report.atlas.canvas import Canvas, Point
from peftref.report.atlas.marks import Mark

BOX, MODULE, STEP = 26.0, 22.0, 27.0
"""Heights of a box, of a module, and of one of several modules beside a box."""
FAR = 60.0
"""How far below a module a value stands that is led around what lies between."""

RAIL = 464.0
"""Where what is carried beside the stream goes up, to the right of all else."""

SIGNS = {
    "concatenation": "∥", "direct addition": "+", "scaled addition": "+", "gated addition": "+", "rescaling": "×",
    "replacement": "=",
}  # fmt: skip
SMALL = dict(zip("0123456789", "₀₁₂₃₄₅₆₇₈₉", strict=True))
PARAMETERS = ("W", "b", "g", "E")


@dataclass(frozen=True, slots=True)
class Column:
    """Where a slot stands: the edge of the flow that its box lies on, the box's width, and the middle and width of its modules."""

    edge: float
    width: float
    lane: float
    module: float


@dataclass(slots=True)
class Place:
    """A slot and its marks, to be drawn from some height on.

    below, above: marks on the edge under the box and over it; inside: those on parameters. beside: the mark over the box whose
    module stands beside it, since it reads what comes in. bare: an edge without a box. numbered: modules say whose insertion's they are.
    """

    slot: str
    label: str
    column: Column
    marks: Sequence[Mark]
    tuned: bool = False
    bare: bool = False
    optional: bool = False
    numbered: bool = False
    points: dict[str, Point] = field(default_factory=dict)

    @property
    def inside(self) -> list[Mark]:
        return [mark for mark in self.marks if mark.quantity in PARAMETERS]

    @property
    def below(self) -> list[Mark]:
        return [mark for mark in self.marks if mark.quantity == "x"]

    @property
    def above(self) -> list[Mark]:
        return [mark for mark in self.marks if mark.quantity not in (*PARAMETERS, "x")]

    @property
    def beside(self) -> Mark | None:
        """The first mark over the box that reads another value than the one it sets."""
        if self.bare or self.inside:
            return None
        return next((mark for mark in self.above if _reads_before(mark) and not mark.beside), None)

    def box_height(self) -> float:
        if self.bare:
            return 0.0
        text = BOX + (12 if self.inside else 0)
        return max(text, STEP * len(self.inside))

    def under(self) -> float:
        """The room under the box."""
        return 12.0 + sum(_room(mark) for mark in self.below) + 8 * (self.beside is not None)

    def over(self) -> float:
        """The room over the box."""
        rest = [mark for mark in self.above if mark is not self.beside]
        return 6.0 + sum(_room(mark) for mark in rest) + 20 * (self.beside is not None)


def draw(
    canvas: Canvas, place: Place, low: float, under: float, height: float, over: float, known: Mapping[str, Point]
) -> None:
    """Draws a place from a height on; under, height, over: the room that the places of its rank have together."""
    edge = place.column.edge
    base, top = low + under, low + under + height
    if not place.bare:
        side = (edge + place.column.width / 2, base + height / 2)
        place.points = {"x": (edge, base - 9 if place.beside else base - 6), "h": (edge, top + 4)}
        place.points |= dict.fromkeys(PARAMETERS, side)
    y = low
    for mark in place.below:
        y = _on_edge(canvas, place, mark, y, known)
    canvas.path([(edge, y), (edge, base)], "flow", arrow=not place.bare)
    if not place.bare:
        _box(canvas, place, base, height)
    y = top
    if place.beside is not None:
        y = _parallel(canvas, place, place.beside, base, height, known)
    for mark in place.above:
        if mark is not place.beside:
            y = _on_edge(canvas, place, mark, y, known)
    canvas.path([(edge, y), (edge, top + over)], "flow")


def _box(canvas: Canvas, place: Place, base: float, height: float) -> None:
    column = place.column
    lines = [(place.label, "name")]
    if place.inside:
        lines.append((", ".join(f"{mark.quantity}′" for mark in place.inside), "prime"))
    kind = "host tuned" if place.tuned else "host optional" if place.optional else "host"
    canvas.box(column.edge, base, column.width, height, lines, kind)
    for i, mark in enumerate(place.inside):
        middle = base + height / 2 + STEP * ((len(place.inside) - 1) / 2 - i)
        right, left = column.edge + column.width / 2, column.lane - column.module / 2
        both = mark.quantity in mark.reads or bool(set(mark.reads) & set(PARAMETERS))
        canvas.path([(left, middle), (right, middle)], "give", arrow=True)
        if both:
            canvas.path([(right, middle), (left, middle)], "give", arrow=True)
        _module(canvas, place, mark, middle)


def _parallel(
    canvas: Canvas, place: Place, mark: Mark, base: float, height: float, known: Mapping[str, Point]
) -> float:
    """A module beside the box: it reads what the box reads, or what is known by a name, and meets what the box gives."""
    middle, node = base + height / 2, base + height + 14
    _reads(canvas, place, mark, middle, {**known, **place.points, **_rail(mark, middle - MODULE / 2 - 6)})
    canvas.path([(place.column.edge, base + height), (place.column.edge, node)], _flow(mark))
    _give(canvas, place, middle, node)
    _module(canvas, place, mark, middle)
    canvas.node(place.column.edge, node, SIGNS[mark.integration], f"{mark.quantity}′")
    return node + 7


def _on_edge(canvas: Canvas, place: Place, mark: Mark, low: float, known: Mapping[str, Point]) -> float:
    """A module beside the edge itself, which reads the value that comes up the edge, or none; gives the height behind it."""
    edge = place.column.edge
    if not mark.reads and not mark.siblings:
        middle = node = low + 15
        canvas.path([(edge, low), (edge, node)], _flow(mark))
        canvas.path([(place.column.lane - place.column.module / 2, middle), (edge + 7, node)], "give", arrow=True)
    else:
        middle, node = low + 21, low + 40
        canvas.path([(edge, low), (edge, low + 4)], "flow")
        canvas.path([(edge, low + 4), (edge, node)], _flow(mark))
        entering = {mark.quantity: (edge, low + 4)} | ({"h": (edge, low + 4)} if mark.beside else {})
        _reads(canvas, place, mark, middle, {**known, **place.points, **entering, **_rail(mark, low + 4)})
        if not mark.beside:
            _give(canvas, place, middle, node)
    _module(canvas, place, mark, middle)
    if mark.beside:
        canvas.path([(place.column.lane + place.column.module / 2, middle), (RAIL - 7, middle)], "give", arrow=True)
        canvas.node(RAIL, middle, SIGNS["replacement"], f"{mark.quantity}′")
        canvas.path([(edge, node), (edge, node + 7)], "flow")
        return node + 7
    canvas.node(edge, node, SIGNS[mark.integration], f"{mark.quantity}′")
    return node + 7


def _give(canvas: Canvas, place: Place, middle: float, node: float) -> None:
    lane, edge = place.column.lane, place.column.edge
    canvas.path([(lane, middle + MODULE / 2), (lane, node), (edge + 7, node)], "give", arrow=True)


def _rail(mark: Mark, y: float) -> dict[str, Point]:
    """Where what is carried is read, at a height."""
    return dict.fromkeys(mark.carried, (RAIL, y))


def _reads(canvas: Canvas, place: Place, mark: Mark, middle: float, known: Mapping[str, Point]) -> None:
    """Lines from what a module reads to its lower side, side by side."""
    right = place.column.lane + place.column.module / 2
    sources = [known[name] for name in (*mark.reads, *mark.siblings) if name in known]
    sources.sort(key=lambda point: point[0] > right)
    bottom = middle - MODULE / 2
    for i, (x, y) in enumerate(sources):
        at = place.column.lane + 9 * (i - (len(sources) - 1) / 2)
        if x == RAIL or (x < at and (len(sources) == 1 or bottom - y > FAR)):
            points = [(x, y), (at, y), (at, bottom)]
        else:
            turn = bottom - 7 - 4 * i
            points = [(x, y), (x + 10, y), (x + 10, turn), (at, turn), (at, bottom)]
        canvas.path(points, "read", arrow=True, dot=True)


def _module(canvas: Canvas, place: Place, mark: Mark, middle: float) -> None:
    numbers = ",".join(str(position + 1) for position in mark.insertions)
    canvas.open(mark.words(), slot=mark.slot, quantity=mark.quantity, insertions=numbers)
    kind = "module" if mark.trained else "module frozen"
    text = _label(mark.leaves, place.column.module)
    canvas.box(place.column.lane, middle - MODULE / 2, place.column.module, MODULE, [(text, "leaf")], kind)
    if place.numbered:
        canvas.text(place.column.lane + place.column.module / 2 + 2, middle + 5, numbers, "badge", anchor="start")
    canvas.close()


def _label(leaves: Sequence[str], width: float) -> str:
    """As many names of leaves as fit; `f` where there are none."""
    room, shown = int(width / 7), ""
    for i, leaf in enumerate(leaves):
        longer = f"{shown} {_letters(leaf)}".strip()
        if len(longer) + (2 if i + 1 < len(leaves) else 0) > room:
            return f"{shown} …".strip()
        shown = longer
    return shown or "f"


def _letters(leaf: str) -> str:
    """A leaf's name in Greek letters and small digits where it has them.

    >>> _letters("beta"), _letters("B1")
    ('β', 'B₁')
    """
    return GREEK.get(leaf) or leaf[:1] + "".join(SMALL.get(letter, letter) for letter in leaf[1:])


def _flow(mark: Mark) -> str:
    """The old value on its way to a module: dashed where nothing of it is left behind but what the module reads."""
    return "cut" if mark.integration == "replacement" and not mark.beside else "flow"


def _reads_before(mark: Mark) -> bool:
    return bool(mark.siblings) or any(name != mark.quantity for name in mark.reads)


def _room(mark: Mark) -> float:
    return 47.0 if mark.reads or mark.siblings else 24.0
