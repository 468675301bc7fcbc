"""The seven rows of the founding techniques, the facts beside them, and what two techniques differ in."""

from __future__ import annotations

import pytest

from peftref.analyse.diff import diff, relatives
from peftref.analyse.row import PEFT_REF
from peftref.analyse.rows import catalog_rows
from peftref.analyse.typology import PROPERTIES, typology
from peftref.design.defaults import defaults
from peftref.design.load import load, read, techniques

ROWS = {
    "prompt": "dense: embedding | fixed | addition | none | weights | parallel | 1 layer | concatenation | embedding",
    "prefix_mlp": "dense: non-linear MLP while training, embedding after | fixed | addition | shared | weights | parallel"
    " | all layers | concatenation on k, v (equal to a gated addition) | attention core",
    "lora": "dense: linear MLP | fixed | reparameterisation | none | data | parallel | all layers | scaled addition"
    " | attention query, value",
    "houlsby": "dense: non-linear MLP | fixed | addition | none | hidden | sequential | all layers | direct addition"
    " | self attention, FFN",
    "tiny_attention": "dense: self-attention | fixed | addition | none | hidden | sequential | all layers | direct addition"
    " | attention",
    "compacter": "dense: non-linear MLP (Kronecker factors) | fixed | addition | shared | hidden | sequential | all layers"
    " | direct addition | self attention, FFN",
    "ia3": "none (element-wise) | fixed | reparameterisation (folds into W) | none | weights | sequential | all layers"
    " | rescaling | attention key, value; FFN hidden",
}


@pytest.mark.parametrize("name", ROWS)
def test_the_founding_rows(name: str) -> None:
    (row,) = typology([name])
    assert [row[column] for column in PEFT_REF] == ROWS[name].split(" | ")


def test_every_cell_of_every_technique_has_a_value_and_a_reason() -> None:
    for row in typology(techniques()):
        assert list(row.cells) == list(PROPERTIES)
        assert all(cell.value and cell.reason for cell in row.cells.values()), row.name


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("prefix", "sharing", "none"),
        ("prefix", "intra", "dense: embedding"),
        ("lora", "mergeable", "yes"),
        ("houlsby", "mergeable", "no"),
        ("houlsby", "identity at init", "near"),
        ("prompt", "identity at init", "no"),
        ("bitfit", "input kept for backward", "no"),
        ("lora", "input kept for backward", "yes"),
        ("prompt", "extra length", "tokens, in the sequence"),
        ("full", "adapted", "the host's own"),
    ],
)
def test_further_cells(name: str, column: str, value: str) -> None:
    assert typology([name])[0][column] == value


def made(at: str, leaves: str, equation: str, settings: str = "{r: 4}") -> str:
    quoted = equation.replace("'", "''")
    return f"{{name: mine, title: Mine, settings: {settings}, insert: [{{at: {at}, leaves: {{{leaves}}}, equation: '{quoted}'}}]}}"


PAIR = "A: {shape: [r, d_in], init: {normal: 0.1}}, B: {shape: [d_out, r], init: zeros}"

FOUR = PAIR + ", C: {shape: [r, d_in], init: {normal: 1}}, D: {shape: [d_out, r], init: {normal: 1}}"
GATED = PAIR + ", G: {shape: [d_model, d_model], init: {normal: 1}}"
EXPERTS = "A: {shape: [3, r, d_in], init: {normal: 1}}, B: {shape: [3, d_out, r], init: zeros}, G: {shape: [3, d_in], init: zeros}"
ROUTED = 'h\' = h + einsum("n, n o r, n r i, i -> o", softmax(G @ x), B, A, x)'
HEADS = 'h\' = einsum("n, (n d) -> (n d)", l, h)'
SCALED = "l: {shape: [d_out], init: ones}, c: {shape: [d_out], init: zeros}"
TIED = "R: {shape: [r, d_model], init: orthogonal}, c: {shape: [r], init: zeros}"


@pytest.mark.parametrize(
    ("text", "column", "value"),
    [
        (made("attention.query", PAIR, "W' = W + B @ A"), "input", "data"),
        (made("attention.query", PAIR, "W' = W + B @ A"), "form", "parallel"),
        (
            made("ffn", PAIR + ", g: {shape: [d_model], init: ones}", "h' = h + sigmoid(g * h) * (B @ A @ h)"),
            "inter",
            "dynamic",
        ),
        (
            made("ffn", PAIR + ", g: {shape: [], init: ones}", "h' = h + g * (B @ A @ h)"),
            "integration",
            "gated addition",
        ),
        (made("ffn", PAIR.replace("B:", "B: "), "h' = B @ relu(A @ h)"), "integration", "replacement"),
        (made("ffn", PAIR, "h' = h + B @ relu(A @ x)"), "form", "parallel"),
        (made("ffn", GATED, "h' = h + sigmoid(G @ h) * (B @ A @ h)"), "intra", "dense: linear MLP"),
        (made("ffn", GATED, "h' = h + B @ A @ (silu(G @ h) * h)"), "intra", "dense: non-linear MLP"),
        (made("attention.query", EXPERTS, ROUTED), "inter", "dynamic"),
        (made("attention.query", EXPERTS, ROUTED), "intra", "dense: linear MLP"),
        (made("attention.query", EXPERTS, ROUTED), "integration", "gated addition"),
        (made("attention.query", FOUR, "W' = W + (D @ C) * (B @ A)"), "integration", "direct addition"),
        (made("attention.value", "l: {shape: [n_kv_heads], init: ones}", HEADS, "{}"), "integration", "rescaling"),
        (made("attention.value", "l: {shape: [n_kv_heads], init: ones}", HEADS, "{}"), "mergeable", "yes"),
        (made("attention.value", "l: {shape: [n_kv_heads], init: ones}", HEADS, "{}"), "identity at init", "yes"),
        (made("ffn", "l: {shape: [d_model], init: ones}", "h' = 2 * h / l", "{}"), "integration", "rescaling"),
        (
            made("ffn.hidden", "l: {shape: [d_ff], init: ones}", 'h\' = einsum("i, i -> i", l, h)', "{}"),
            "mergeable",
            "yes",
        ),
        (
            made("ffn.norm", "l: {shape: [d_model], init: ones}", 'h\' = einsum("i, i -> i", l, h)', "{}"),
            "mergeable",
            "yes",
        ),
        (made("attention.query", PAIR, "W' = W * (1 + B @ A)"), "inter", "fixed"),
        (made("ffn.up", SCALED, "h' = l * h + c", "{}"), "integration", "rescaling; direct addition"),
        (made("layer", TIED, "h' = h + R.T @ (c - R @ h)"), "sharing", "tied"),
        (made("ffn", PAIR, "h' = h + B @ relu(A @ x)"), "input", "data"),
    ],
)
def test_designs_that_are_in_no_catalog(text: str, column: str, value: str) -> None:
    assert typology([read(text)])[0][column] == value


def test_a_technique_differs_from_itself_in_nothing() -> None:
    for technique in techniques():
        assert not diff(technique, technique)


def test_what_differs_is_named() -> None:
    found = diff("lora", "ia3")
    assert {each.what for each in found.properties} >= {"intra", "input", "form", "integration", "workspace"}
    assert found.slots[0].what == "attention.query"
    assert {each.what for each in found.settings} == {"r", "alpha", "dropout"}
    small = diff("houlsby", "pfeiffer")
    assert [(each.what, each.one, each.other) for each in small.equations] == [
        ("ffn", "gelu(D @ h + c)", "relu(D @ out + c)")
    ]
    assert [each.what for each in small.slots] == ["self_attention"]


def test_names_of_leaves_make_no_difference() -> None:
    one = made("ffn", PAIR, "h' = h + B @ relu(A @ h)")
    other = one.replace("A:", "D:").replace("B:", "U:").replace("B @ relu(A", "U @ relu(D")
    assert diff(read(one), read(other)).equations == ()
    assert diff(read(one), read(other)).properties == ()


def test_the_nearest_relatives() -> None:
    near = relatives(load("pfeiffer"), typology(defaults().compare), 2)
    assert [each.name for each in near] == ["houlsby", "tiny_attention"]
    assert near[0].differing == ("workspace",)
    assert relatives(load("pfeiffer"), catalog_rows(), 1)[0].distance <= 1
