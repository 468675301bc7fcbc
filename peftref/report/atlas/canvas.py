"""A canvas of SVG shapes, drawn from below to above, as data flows in the figures of papers."""

from __future__ import annotations

import html
from collections.abc import Sequence

Point = tuple[float, float]


class Canvas:
    """Shapes in layers: frames lie under lines, lines under boxes. y is the height above the bottom edge."""

    def __init__(self, width: float) -> None:
        self.width = width
        self.frames: list[str] = []
        self.lines: list[str] = []
        self.boxes: list[str] = []
        self._height = 0.0

    def frame(self, left: float, right: float, low: float, high: float, label: str, *, back: bool = False) -> None:
        """A group of boxes, with its name in the upper right corner; back: behind all other frames."""
        drawn: list[str] = []
        self._rect(drawn, left, low, right - left, high - low, "frame", 8)
        self.frames = drawn + self.frames if back else self.frames + drawn
        self.text(right - 6, high - 13, label, "note", anchor="end")

    def box(
        self, x: float, low: float, width: float, height: float, lines: Sequence[tuple[str, str]], kind: str
    ) -> None:
        """A box centred at x, with lines of text in it: text and class of each."""
        self._rect(self.boxes, x - width / 2, low, width, height, kind, 4)
        top = low + height / 2 + 6.5 * (len(lines) - 1)
        for i, (text, style) in enumerate(lines):
            self.text(x, top - 13 * i - 4, text, style)

    def path(self, points: Sequence[Point], kind: str, *, arrow: bool = False, dot: bool = False) -> None:
        """A line through points; with an arrow at its end, with a dot where it begins."""
        kept = [point for i, point in enumerate(points) if i == 0 or point != points[i - 1]]
        shown = " ".join(f"{_number(x)},{_number(-y)}" for x, y in kept)
        self.lines.append(f'<polyline class="{kind}" points="{shown}"/>')
        self._height = max([self._height, *(y for _, y in kept)])
        if dot:
            self.lines.append(f'<circle class="dot" cx="{_number(kept[0][0])}" cy="{_number(-kept[0][1])}" r="2.5"/>')
        if arrow and len(kept) > 1:
            self._arrow(kept[-2], kept[-1], kind)

    def node(self, x: float, y: float, sign: str, name: str) -> None:
        """A small circle in which two values meet, and the name of what comes out of it."""
        self.text(x - 10, y + 4, name, "prime", anchor="end")
        self.boxes.append(f'<circle class="node" cx="{_number(x)}" cy="{_number(-y)}" r="7"/>')
        self.text(x, y - 4, sign, "sign")

    def cell(self, x: float, y: float, size: float, kind: str) -> None:
        """A small square."""
        self._rect(self.boxes, x, y, size, size, kind, 1)

    def join(self, x: float, y: float) -> None:
        """The sum of a residual connection, which belongs to the host."""
        self.boxes.append(f'<circle class="host" cx="{_number(x)}" cy="{_number(-y)}" r="7"/>')
        self.text(x, y - 4, "+", "name")

    def text(self, x: float, y: float, text: str, kind: str, anchor: str = "middle") -> None:
        """A text at its baseline."""
        where = f'x="{_number(x)}" y="{_number(-y)}"'
        self.boxes.append(f'<text class="{kind}" {where} text-anchor="{anchor}">{html.escape(text)}</text>')
        self._height = max(self._height, y + 12)

    def open(self, title: str, **data: str) -> None:
        """Begins a group with a title of its own; data: what the group says of itself to programs."""
        more = "".join(f' data-{key}="{html.escape(value)}"' for key, value in data.items())
        self.boxes.append(f"<g{more}><title>{html.escape(title)}</title>")

    def close(self) -> None:
        """Ends the group."""
        self.boxes.append("</g>")

    def render(self, head: str, attributes: str, *, paper: bool, margin: float = 6) -> str:
        """The whole drawing as an SVG element; head: what stands first in it; paper: on a ground of its own."""
        height = self._height + 2 * margin
        if paper:
            head += f'<rect class="paper" x="0" y="{_number(margin - height)}" width="100%" height="100%"/>\n'
        view = f"0 {_number(margin - height)} {_number(self.width)} {_number(height)}"
        content = "\n".join([*self.frames, *self.lines, *self.boxes])
        return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view}" {attributes}>\n{head}{content}\n</svg>'

    def _rect(
        self, layer: list[str], x: float, low: float, width: float, height: float, kind: str, round_: int
    ) -> None:
        place = f'x="{_number(x)}" y="{_number(-low - height)}" width="{_number(width)}" height="{_number(height)}"'
        layer.append(f'<rect class="{kind}" {place} rx="{round_}"/>')
        self._height = max(self._height, low + height)

    def _arrow(self, before: Point, tip: Point, kind: str) -> None:
        dx, dy = tip[0] - before[0], tip[1] - before[1]
        size = max(abs(dx), abs(dy)) or 1.0
        ux, uy = dx / size, dy / size
        corners = [tip, *((tip[0] - 6 * ux + side * uy, tip[1] - 6 * uy + side * ux) for side in (3.2, -3.2))]
        shown = " ".join(f"{_number(x)},{_number(-y)}" for x, y in corners)
        self.lines.append(f'<polygon class="head-{kind}" points="{shown}"/>')


def _number(value: float) -> str:
    return f"{value + 0.0:.4g}"
