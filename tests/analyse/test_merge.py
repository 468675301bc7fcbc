"""Merge rules against the oracle: `h'(x)` of random equations is `W' @ x + b'`, and what is not affine is refused with its part."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftref.analyse.affine import INPUT, Affine, NotLinearError, affine
from peftref.analyse.merge import Blocked, Merge, merge_rules
from peftref.design.load import read
from peftref.design.technique import Technique
from peftref.language.expr import Call, Expr, Name, Number, Text, names, walk
from peftref.language.rewrite.simplify import simplify
from peftref.language.scope import Scope
from peftref.language.show import show
from peftref.modules.compile.oracle import Array, Oracle
from tests.language.strategies import SETTINGS, SIZES, expressions, matrices, scalars, scope

OWN = Affine(matrix=Name("W"), shift=Name("b"))
LAW = {"x": INPUT, "h": OWN}


def numbers(at: Scope, seed: int, **sizes: int) -> dict[str, Array | float]:
    """Random values of every name of a scope; h is W @ x + b where there is a weight."""
    sizes = {**SIZES, **sizes}
    generator = np.random.default_rng(seed)
    found: dict[str, Array | float] = {name: float(value) for name, value in {**sizes, **SETTINGS}.items()}
    for name, entry in at.entries.items():
        if entry.role in ("quantity", "leaf"):
            shape = entry.kind.evaluate(sizes)
            found[name] = generator.normal(size=(2, 3, *shape) if entry.kind.per == "token" else shape)
    if at.slot == "attention.query":
        found["h"] = found["x"] @ np.asarray(found["W"]).T + found["b"]
    return found


def applied(weight: Expr | None, shift: Expr | None, at: Scope, values: dict[str, Array | float], to: Array) -> Array:
    """`weight @ to + shift`, both evaluated by the oracle."""
    oracle = Oracle(at, values)
    result = np.zeros(())
    if weight is not None:
        matrix = np.broadcast_to(oracle.evaluate(weight), (SIZES["d_out"], SIZES["d_in"]))
        result = result + to @ matrix.T
    return result if shift is None else result + oracle.evaluate(shift)


def lines(depth: int) -> st.SearchStrategy[Expr]:
    """Values [d_out] per token that are affine in x by their making."""
    base: st.SearchStrategy[Expr] = st.one_of(
        st.just(Name("h")),
        matrices("d_out", "d_in", 1).map(lambda m: Call("matmul", (m, Name("x")))),
        matrices("d_out", "d_in", 1).map(lambda m: Call("matmul", (m, Call("dropout", (Name("x"), Number(0)))))),
        st.just(Call("einsum", (Text("o r, r i, i -> o"), Name("B"), Name("A"), Name("x")))),
        st.sampled_from([Name("l"), Name("b")]),
    )
    if depth == 0:
        return base
    inner = lines(depth - 1)
    return st.one_of(
        base,
        st.builds(lambda op, a, b: Call(op, (a, b)), st.sampled_from(["add", "sub"]), inner, inner),
        inner.map(lambda a: Call("neg", (a,))),
        inner.map(lambda a: Call("mul", (Name("l"), a))),
        st.builds(lambda s, a: Call("mul", (a, s)), scalars, inner),
        inner.map(lambda a: Call("div", (a, Number(3)))),
        inner.map(lambda a: Call("stop_gradient", (a,))),
    )


@settings(max_examples=120, deadline=None)
@given(expr=lines(3), seed=st.integers(0, 99))
def test_affine_equations_are_their_weight_and_bias(expr: Expr, seed: int) -> None:
    at = scope()
    found = affine(expr, LAW, {}, at)
    assert found.scale is None
    values = numbers(at, seed)
    direct = np.broadcast_to(Oracle(at, values).evaluate(expr), (2, 3, SIZES["d_out"]))
    weight, shift = (None if part is None else simplify(part) for part in (found.matrix, found.shift))
    merged = applied(weight, shift, at, values, np.asarray(values["x"]))
    np.testing.assert_allclose(np.broadcast_to(merged, direct.shape), direct, rtol=1e-9, atol=1e-9)


def read_affine(expr: Expr, at: Scope) -> tuple[Affine | None, Expr]:
    """The affine map, or the part that prevents it."""
    try:
        return affine(expr, LAW, {}, at), expr
    except NotLinearError as error:
        return None, error.where


@settings(max_examples=150, deadline=None)
@given(expr=expressions(3), seed=st.integers(0, 99))
def test_any_equation_is_merged_rightly_or_refused_rightly(expr: Expr, seed: int) -> None:
    """Of random equations, linear or not: what is accepted is right, and what is refused names a part that bends."""
    at = scope()
    values = numbers(at, seed)
    found, where = read_affine(expr, at)
    if found is None:
        assert names(where) & {"x", "h"}
        assert where in walk(expr)
        return
    direct = Oracle(at, values).evaluate(expr)
    merged = applied(found.matrix, found.shift, at, values, np.asarray(values["x"]))
    np.testing.assert_allclose(np.broadcast_to(merged, direct.shape), direct, rtol=1e-9, atol=1e-9)


SHAPES = {"A": "r, d_in", "B": "d_out, r", "l": "d_out", "c": "d_out"}


def technique(at: str, equation: str) -> Technique:
    """A technique with the leaves and settings that its equation reads."""
    used = frozenset(re.findall(r"\w+", equation))
    leaves = ", ".join(f"{k}: {{shape: [{v}], init: {{normal: 0.1}}}}" for k, v in SHAPES.items() if k in used)
    given = ", ".join(
        k for k in ("r: 2" if used & {"A", "B"} else "", "dropout: 0.1" if "dropout" in used else "") if k
    )
    quoted = equation.replace("'", "''")
    return read(
        f"{{name: m, title: M, settings: {{{given}}}, insert: [{{at: {at}, leaves: {{{leaves}}}, equation: '{quoted}'}}]}}"
    )


@pytest.mark.parametrize(
    ("slot", "into", "equation"),
    [
        ("ffn.hidden", "ffn.down", "h' = l * h + c"),
        ("ffn.hidden", "ffn.down", "h' = h + B @ A @ h"),
        ("ffn.hidden", "ffn.down", "h' = l * h + c * (B @ A @ h) - c"),
        ("ffn", "ffn.down", "h' = h + B @ A @ h + c"),
        ("attention", "attention.output", "h' = l * (h - B @ A @ dropout(h))"),
    ],
)
def test_slots_without_a_weight_fold_into_the_projection_beside_them(slot: str, into: str, equation: str) -> None:
    """The projection reads `ffn.hidden`, and gives what a sublayer gives: both ways round it is the same function."""
    (rule,) = merge_rules(technique(slot, equation))
    assert isinstance(rule, Merge)
    assert rule.into == into
    sizes = {"d_model": 6, "d_ff": 8, "n_heads": 2, "d_value": 3}
    values = numbers(rule.scope, 1, **sizes)
    weight, bias = np.asarray(values["W"]), np.asarray(values["b"])
    before = slot == "ffn.hidden"
    entering = np.random.default_rng(2).normal(size=(2, 3, weight.shape[1]))
    values["h"] = entering if before else entering @ weight.T + bias
    value = rule.insertion.effects[slot].values["h"]
    there = Oracle(rule.insertion.effects[slot].scope, values).evaluate(value)
    direct = there @ weight.T + bias if before else there
    oracle = Oracle(rule.scope, values)
    merged = entering @ oracle.evaluate(rule.values["W"]).T + oracle.evaluate(rule.values.get("b", Name("b")))
    np.testing.assert_allclose(merged, direct, rtol=1e-9, atol=1e-9)


def test_a_norm_takes_scale_and_shift_into_its_own() -> None:
    (rule, *_) = merge_rules(technique("ffn.norm", "h' = l * h - c"))
    assert isinstance(rule, Merge)
    assert {name: show(value) for name, value in rule.values.items()} == {"g": "l * g", "b": "l * b + -1 * c"}


@pytest.mark.parametrize(
    ("slot", "equation", "reason"),
    [
        ("ffn", "h' = h + B @ relu(A @ h)", "relu(A @ h) is not linear in h"),
        ("ffn", "h' = h + B @ A @ x", "x is what enters the sublayer, and its last projection does not see it"),
        ("ffn.norm", "h' = B @ A @ h", "B @ A @ h mixes the numbers of a vector, and a gain does not"),
        ("attention.query", "h' = h + (B @ A @ x) * h", "B @ A @ x * h is not linear in h and x"),
        ("layer", "h' = h + c", "h of layer is a sum that no projection of its own gives"),
    ],
)
def test_what_cannot_merge_says_which_part(slot: str, equation: str, reason: str) -> None:
    (rule,) = merge_rules(technique(slot, equation))
    assert isinstance(rule, Blocked)
    assert rule.show() == reason
