"""The checker: what is right passes, and what is wrong is named, all of it, with place, kinds and a hint."""

from __future__ import annotations

import pytest
from hypothesis import given

from peftref.core.problem import Problem
from peftref.language.check import check
from peftref.language.parse import parse, parse_expression, plain_locate
from peftref.language.read_size import parse_size
from peftref.language.scope import Leaf
from peftref.language.show import show
from tests.language.every_op import EVERY_OP
from tests.language.strategies import expressions, scope


def leaves(**shapes: str) -> dict[str, Leaf]:
    return {name: Leaf(name, tuple(parse_size(dim) for dim in shape.split())) for name, shape in shapes.items()}


LORA = leaves(A="r d_in", B="d_out r")


def problems(text: str, slot: str = "attention.query", **shapes: str) -> list[Problem]:
    declared = leaves(**shapes) or LORA
    return check(parse(text), slot, declared, {"r": 8, "alpha": 16, "dropout": 0.0}, plain_locate(text))[1]


def test_lora_is_right() -> None:
    assert problems("h' = h + (alpha / r) * B @ A @ dropout(x)") == []


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("h' = h + B @ x", ["shape"]),
        ("h' = h + C @ x", ["unknown-name"]),
        ("h' = h + C @ gelo(x)", ["unknown-name", "unknown-op"]),
        ("z = A @ x\nh' = h", ["unused-intermediate"]),
        ("x = h\nh' = h", ["shadowed-name"]),
        ("gelu = h\nh' = h", ["shadowed-name"]),
        ("z = A @ x", ["no-effect"]),
        ("h' = h\nh' = h", ["set-twice"]),
        ("h' = h\nW' = W", ["prime-conflict"]),
        ("h' = concat(h, h)", ["length-change"]),
        ("q' = h", ["not-replaceable"]),
        ("h' = A @ x", ["shape"]),
        ("h' = attend(h, h, h, heads=x)", ["op-arguments"]),
        ("h' = attend(h, h, h, haeds=2)", ["op-arguments"]),
        ("h' = gelu(h, h)", ["op-arguments"]),
        ("h' = steered(h, 2 * h)", ["op-arguments"]),
        ("a, b = h\nh' = h", ["op-arguments"]),
    ],
)
def test_what_is_wrong_is_named(text: str, codes: list[str]) -> None:
    assert [problem.code for problem in problems(text)] == codes


def test_a_clash_says_who_set_each_size_and_bridges_it() -> None:
    (problem,) = problems("h' = h + (alpha / r) * B @ x")
    assert problem.render() == (
        "equation:1:10: inner sizes differ: r and d_in [shape]\n"
        "  1 | h' = h + (alpha / r) * B @ x\n"
        "    |          ^^^^^^^^^^^^^^^^^^^\n"
        "  B is [d_out, r]: the leaf B\n"
        "  x is [d_in] per token: input, of attention.query\n"
        "  d_in is width of what the slot reads\n"
        "  r is the setting r, 8\n"
        "  hint: did you mean alpha / r * B @ A @ x?"
    )


def test_the_core_reads_its_siblings() -> None:
    text = "k' = concat(P, k); v' = concat(P, v)"
    assert problems(text, "attention.core", P="t n_kv_heads d_head")[0].code == "shape"
    assert (
        problems(
            "k' = concat(P, k); v' = concat(Q, v)", "attention.core", P="t n_kv_heads d_head", Q="t n_kv_heads d_value"
        )
        == []
    )
    assert [p.code for p in problems("k' = concat(P, k)", "attention.core", P="t n_kv_heads d_head")] == [
        "length-change"
    ]


@given(expressions())
def test_what_is_shown_reads_back_as_itself(expr) -> None:  # type: ignore[no-untyped-def]
    assert parse_expression(show(expr)) == expr
    assert scope().kind(expr).show() == "[d_out] per token"


@pytest.mark.parametrize("op", EVERY_OP, ids=lambda op: op.name)
def test_the_example_of_every_op_parses_back(op) -> None:  # type: ignore[no-untyped-def]
    expr = parse_expression(op.example)
    assert parse_expression(show(expr)) == expr


def test_an_option_that_is_no_size_is_told_with_all_else() -> None:
    found = problems("h' = skew(u, n=1.5) @ h + z", u="6")
    assert [problem.code for problem in found] == ["shape", "unknown-name"]
    assert "the option n of skew is 1.5, which is no size" in found[0].text
    assert found[0].place is not None
