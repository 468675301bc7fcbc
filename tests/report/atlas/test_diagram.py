"""Drawings: every insertion of the catalog and at every slot is shown, with all that it reads, and nothing lies on anything else."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from peftref.design.insertion import insertions
from peftref.design.load import read, techniques
from peftref.design.technique import Technique
from peftref.host.architecture import ARCHITECTURE
from peftref.language.expr import names
from peftref.language.parse import parse
from peftref.report.atlas.diagram import diagram
from peftref.report.atlas.marks import marks

SVG = "{http://www.w3.org/2000/svg}"

WRITTEN = {
    "linear": ("h' = h + beta", "h' = l * h", "x' = 2 * x", "W' = 2 * W; b' = b + beta", "h' = h + W @ x", "h' = h + 2 * h", "x' = x / 2; W' = 2 * W", "h' = 2 * (W @ x) + beta"),
    "sublayer": ("h' = h + beta", "h' = l * h", "h' = h + relu(x)", "h' = h + relu(h)", "h' = relu(x) + relu(h)"),
    "activation": ("h' = l * h", "h' = relu(h) + h"),
    "norm": ("g' = g + l; b' = b + beta", "h' = h + beta", "h' = h + relu(x)", "g' = l"),
    "core": ("k' = concat(P, k); v' = concat(Q, v)", "q' = 2 * q", "o' = o + attend(q, P, Q)", "k' = k + relu(k); o' = 2 * o", "q' = 2 * q; k' = 2 * k; v' = 2 * v; o' = o + norm(q) * o"),
    "sequence": ("h' = concat(P, h)", "h' = h + relu(h)", "E' = 2 * E"),
}  # fmt: skip
SHAPES = {
    "linear": {"beta": "[d_out]", "l": "[d_out]"},
    "sublayer": {"beta": "[d_model]", "l": "[d_model]"},
    "activation": {"l": "[d_ff]"},
    "norm": {"beta": "[d_model]", "l": "[d_model]"},
    "core": {"P": "[4, n_kv_heads, d_head]", "Q": "[4, n_kv_heads, d_value]"},
    "sequence": {"P": "[4, d_model]"},
}
"""Equations for every kind of slot, among them those that no technique of the catalog has, and the shapes of their leaves."""


def read_by(equation: str) -> set[str]:
    return {name for statement in parse(equation).statements for name in names(statement.value)}


def designs() -> list[Technique]:
    found = []
    for slot in ARCHITECTURE.slots:
        for number, equation in enumerate(WRITTEN[slot.kind]):
            shapes = {name: shape for name, shape in SHAPES[slot.kind].items() if name in read_by(equation)}
            leaves = ", ".join(f"{name}: {{shape: {shape}, init: {{normal: 0.02}}}}" for name, shape in shapes.items())
            text = f'{{name: mine, title: Mine, insert: [{{at: {slot.name}, leaves: {{{leaves}}}, equation: "{equation}"}}]}}'
            try:
                made = read(text, f"{slot.name} {number}")
            except Exception as error:
                raise AssertionError(f"{slot.name}: {equation}") from error
            found.append(made.model_copy(update={"title": f"{slot.name} {number}"}))
    return found


DRAWN = [*techniques(), *designs()]
each = pytest.mark.parametrize("technique", DRAWN, ids=lambda one: one.title)


@each
def test_a_drawing_shows_every_insertion(technique: Technique) -> None:
    """Every quantity that any insertion sets at any slot has a module with a title that names both; counted from the effects."""
    root = ElementTree.fromstring(diagram(technique))
    wanted = {
        (slot, quantity, number)
        for number, insertion in enumerate(insertions(technique), start=1)
        for slot, effect in insertion.effects.items()
        for quantity in effect.values
    }
    drawn = [group for group in root.iter(f"{SVG}g") if "data-slot" in group.attrib]
    shown = {
        (group.attrib["data-slot"], group.attrib["data-quantity"], int(number))
        for group in drawn
        for number in group.attrib["data-insertions"].split(",")
    }
    assert shown == wanted
    assert len(drawn) == len(marks(technique))
    description = next(root.iter(f"{SVG}desc")).text or ""
    assert all((group[0].text or "") in description for group in drawn)
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert set(root.attrib["aria-labelledby"].split() + root.attrib["aria-describedby"].split()) == set(ids)


@each
def test_nothing_in_a_drawing_lies_on_something_else_or_outside(technique: Technique) -> None:
    root = ElementTree.fromstring(diagram(technique))
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    boxes = []
    for rect in root.iter(f"{SVG}rect"):
        if rect.attrib["class"] in ("paper", "frame", "on", "off"):
            continue
        x, y, w, h = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        assert left <= x <= x + w <= left + width
        assert top <= y <= y + h <= top + height
        boxes.append((x, y, x + w, y + h, rect.attrib["class"]))
    for circle in root.iter(f"{SVG}circle"):
        if circle.attrib["class"] != "dot":
            x, y, r = (float(circle.attrib[name]) for name in ("cx", "cy", "r"))
            boxes.append((x - r, y - r, x + r, y + r, "node"))
    for i, one in enumerate(boxes):
        for other in boxes[i + 1 :]:
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart, f"{one} and {other}"


@each
def test_a_drawing_has_a_line_for_all_that_is_read(technique: Technique) -> None:
    """Every value that a module reads has a line; a parameter that it also sets has an arrow that goes both ways."""
    root = ElementTree.fromstring(diagram(technique))
    lines = [line for line in root.iter(f"{SVG}polyline") if line.attrib["class"] == "read"]
    wanted = sum(len(mark.reads) + len(mark.siblings) for mark in marks(technique) if mark.quantity not in "WbgE")
    assert len(lines) - 1 == wanted  # one is the legend's


def spans(text: str) -> dict[str, tuple[float, float]]:
    """The lower and the upper edge of the frames of a drawing, from below."""
    root = ElementTree.fromstring(text)
    found = [rect for rect in root.iter(f"{SVG}rect") if rect.attrib["class"] == "frame"]
    edges = sorted((-float(r.attrib["y"]) - float(r.attrib["height"]), -float(r.attrib["y"])) for r in found)
    return dict(zip(("layer", "attention", "ffn"), edges, strict=True))


@pytest.mark.parametrize(
    ("slot", "value", "above", "below"),
    [("ffn", "x", "attention", "ffn"), ("ffn", "h", "ffn", None), ("layer", "x", None, "attention"), ("layer", "h", "ffn", None), ("self_attention", "h", "attention", "ffn")],
)  # fmt: skip
def test_a_module_reads_what_goes_into_its_slot_or_what_comes_out(
    slot: str, value: str, above: str | None, below: str | None
) -> None:
    """Where the line begins: over the frame of one sublayer, and under that of another."""
    text = diagram(read(f"{{name: mine, title: Mine, insert: [{{at: {slot}, equation: h' = h + relu({value})}}]}}"))
    lines = [one for one in ElementTree.fromstring(text).iter(f"{SVG}polyline") if one.attrib["class"] == "read"]
    start = max(-float(one.attrib["points"].split()[0].split(",")[1]) for one in lines)
    found = spans(text)
    assert above is None or start > found[above][1]
    assert below is None or start < found[below][0]
    assert start > found["layer"][0]


def test_what_is_trained_of_the_host_is_coloured() -> None:
    text = diagram(read("{name: mine, title: Mine, tune: [ffn.up, final.norm]}"))
    tuned = [rect for rect in ElementTree.fromstring(text).iter(f"{SVG}rect") if "tuned" in rect.attrib["class"]]
    assert len(tuned) == 2
