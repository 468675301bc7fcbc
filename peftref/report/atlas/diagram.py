"""The transformer block of a technique as one SVG: the host in grey, what is inserted in colour, and a legend."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterator, Sequence

from peftref.analyse.formula import ONCE
from peftref.core.problem import PeftrefError
from peftref.design.insertion import Insertion, insertions
from peftref.design.technique import Technique
from peftref.host.architecture import ARCHITECTURE
from peftref.report.atlas.block import BESIDE, WIDTH, Block
from peftref.report.atlas.canvas import Canvas
from peftref.report.atlas.marks import Mark, marks, tuned_slots
from peftref.report.atlas.palette import style_alone

LAYERS = 12
"""How many layers the strips of the legend have."""


def diagram(technique: Technique, *, alone: bool = True) -> str:
    """The transformer block with a technique's modules at their slots, as an SVG element.

    alone: with its own colours, light and dark, for a file; else it takes the colours of the page that it stands in.
    Raises PeftrefError where the technique's equations are wrong.

    >>> from peftref.design.load import load
    >>> text = diagram(load("lora"))
    >>> text.startswith("<svg"), text.count("<title>attention.query")
    (True, 1)
    """
    drawn = marks(technique)
    canvas = Canvas(WIDTH + BESIDE * any(mark.carried for mark in drawn))
    top = _legend(canvas, technique)
    Block(canvas, drawn, tuned_slots(technique), top).draw()
    names = f"{technique.name}-title", f"{technique.name}-words"
    head = f'<title id="{names[0]}">{html.escape(technique.title)} in the transformer block</title>\n'
    head += f'<desc id="{names[1]}">{html.escape(" ".join(f"{line}." for line in words(technique, drawn)))}</desc>\n'
    if alone:
        head += f"<style>\n{style_alone()}</style>\n"
    return canvas.render(
        head, f'class="diagram" role="img" aria-labelledby="{names[0]}" aria-describedby="{names[1]}"', paper=alone
    )


def words(technique: Technique, drawn: Sequence[Mark]) -> Iterator[str]:
    """The drawing in words."""
    for mark in drawn:
        yield mark.words()
    if technique.tune == "all":
        yield "all parameters of the host are trained"
    elif technique.tune != "none":
        yield f"the host's own parameters at {', '.join(technique.tune)} are trained"
    elif not drawn:
        yield "nothing is inserted and nothing of the host is trained; only a task head"


def _legend(canvas: Canvas, technique: Technique) -> float:
    """What each insertion is, where and in which layers, at the foot of the drawing; gives the height above it."""
    entries = list(_entries(technique))
    y = top = 34.0 + sum(14 * len(texts) + (19 if insertion else 4) for texts, insertion in entries)
    for texts, insertion in entries:
        for text in texts:
            y -= 14
            canvas.text(10, y, text, "rule", anchor="start")
        if insertion is not None:
            y -= 15
            _strip(canvas, y, insertion, technique)
        y -= 4
    _key(canvas, 10)
    return top + 8


def _entries(technique: Technique) -> Iterator[tuple[list[str], Insertion | None]]:
    """The lines of the legend: each insertion with its strip of layers, and what is trained of the host."""
    found = insertions(technique)
    for number, insertion in enumerate(found, start=1):
        stacks = f" ({', '.join(insertion.stacks)})" if insertion.stacks else ""
        front = f"{number}  " if len(found) > 1 else ""
        yield textwrap.wrap(f"{front}at {', '.join(insertion.at)}{stacks}", 66), insertion
    if technique.tune != "none":
        yield ["the host's own parameters are trained where a box is coloured"], None
    elif not found:
        yield ["nothing is inserted, and nothing of the host is trained"], None


def _strip(canvas: Canvas, y: float, insertion: Insertion, technique: Technique) -> None:
    """The layers of a stack side by side, with the chosen ones filled."""
    if all(ARCHITECTURE.slot(slot).component in ONCE for slot in insertion.effects):
        canvas.text(10, y + 1, "once in a stack", "rule", anchor="start")
        return
    try:
        chosen = set(insertion.layers.choose(LAYERS, technique.settings))
    except PeftrefError:  # a choice that a stack of so few layers does not have
        chosen = set()
    rule = "all layers" if insertion.layers.rule == "all" else f"layers: {insertion.layers}"
    if chosen:
        for layer in range(LAYERS):
            canvas.cell(10 + 11 * layer, y, 9, "on" if layer in chosen else "off")
    canvas.text(10 + 11 * LAYERS + 6 if chosen else 10, y + 1, rule, "rule", anchor="start")


def _key(canvas: Canvas, y: float) -> None:
    canvas.box(22, y - 5, 22, 12, [], "module")
    canvas.text(38, y - 3, "inserted", "rule", anchor="start")
    canvas.path([(96, y + 1), (122, y + 1)], "read", arrow=True, dot=True)
    canvas.text(128, y - 3, "reads", "rule", anchor="start")
    canvas.path([(172, y + 1), (198, y + 1)], "give", arrow=True)
    canvas.text(204, y - 3, "sets", "rule", anchor="start")
    canvas.path([(242, y + 1), (268, y + 1)], "cut")
    canvas.text(274, y - 3, "replaced", "rule", anchor="start")
    canvas.box(345, y - 5, 22, 12, [], "host")
    canvas.text(361, y - 3, "frozen host", "rule", anchor="start")
