"""Every rewrite keeps the value, by the oracle, on random well-typed expressions; and the cost never rises."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings

import peftref.language.rewrite
from peftref.language.expr import Call, Expr, Name, walk
from peftref.language.parse import parse_expression
from peftref.language.read_size import parse_size
from peftref.language.rewrite.cost import Load, Meter
from peftref.language.rewrite.optimise import optimise
from peftref.language.rewrite.simplify import simplify
from peftref.language.scope import Leaf, Scope, scope_at
from peftref.language.show import show
from peftref.modules.compile.oracle import Array, Oracle
from tests.language.strategies import LEAVES, SETTINGS, SIZES, expressions, scope


@pytest.mark.parametrize("module", [module.name for module in pkgutil.iter_modules(peftref.language.rewrite.__path__)])
def test_docstring_examples(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"peftref.language.rewrite.{module}")).failed == 0


POSITIONS = frozenset({"at"})
"""Leaves that are positions in another value."""


def random_values(
    where: Scope, sizes: Mapping[str, int], settings: Mapping[str, float], seed: int = 0
) -> dict[str, Array | float]:
    generator = np.random.default_rng(seed)
    values: dict[str, Array | float] = {}
    for name, entry in where.entries.items():
        if entry.role in ("quantity", "leaf"):
            lead = (2, 3) if entry.kind.per == "token" else ()
            shape = (*lead, *entry.kind.evaluate(sizes))
            positions = name in POSITIONS
            values[name] = (
                generator.permutation(shape[-1]).reshape(shape) if positions else generator.normal(size=shape)
            )
        elif entry.role == "setting":
            values[name] = float(settings[name])
        elif name in sizes:
            values[name] = float(sizes[name])
    return values


def assert_same_value(one: Expr, other: Expr, where: Scope, values: Mapping[str, Array | float]) -> None:
    oracle = Oracle(where, values)
    left, right = oracle.evaluate(one), oracle.evaluate(other)
    scale = max(1.0, float(np.abs(left).max()))
    np.testing.assert_allclose(np.broadcast_to(right, left.shape) / scale, left / scale, atol=1e-9)


SCOPE = scope()
METER = Meter(SCOPE, SIZES, Load(6, 3, frozenset([*LEAVES, "x", "h"])))
VALUES = random_values(SCOPE, SIZES, SETTINGS)


@settings(max_examples=120, deadline=None)
@given(expressions(3))
def test_the_optimised_form_has_the_same_value_and_costs_no_more(expr: Expr) -> None:
    better, _ = optimise(expr, METER)
    assert_same_value(expr, better, SCOPE, VALUES)
    assert METER.cost(better).score <= METER.cost(simplify(expr)).score
    assert METER.scope.kind(better).dims in (METER.scope.kind(expr).dims, ())


BIG = {"d_in": 768, "d_out": 768, "r": 8, "n": 4, "bottleneck": 48, "k": 1, "d_model": 768}


def leaves(**shapes: str) -> dict[str, Leaf]:
    return {name: Leaf(name, tuple(parse_size(dim) for dim in shape.split(","))) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("text", "declared", "expected"),
    [
        ("h + 2 * B @ A @ x", leaves(A="r,d_in", B="d_out,r"), "h + B @ (2 * (A @ x))"),
        ("kron(C, D) @ x", leaves(C="n,n", D="d_out / n,d_in / n"), None),
        ("(B1 @ A1) * (B2 @ A2) @ x", leaves(A1="r,d_in", B1="d_out,r", A2="r,d_in", B2="d_out,r"), None),
        ("block_diag(D) @ x", leaves(D="n,d_out / n,d_in / n"), None),
        ("B @ diag(l) @ A @ x", leaves(A="r,d_in", B="d_out,r", l="r"), "B @ (l * (A @ x))"),
        ("W @ x + b + B @ A @ x", leaves(A="r,d_in", B="d_out,r"), None),
    ],
)
def test_no_matrix_of_full_size_is_formed(text: str, declared: dict[str, Leaf], expected: str | None) -> None:
    where = scope_at("attention.query", declared, {"r": 8, "n": 4})
    meter = Meter(where, BIG, Load(512, 64, frozenset([*declared, "x"])))
    naive = parse_expression(text)
    better, _ = optimise(naive, meter)
    if expected is not None:
        assert show(better) == expected
    small = {**BIG, "d_in": 8, "d_out": 8, "r": 2, "n": 4}
    assert_same_value(naive, better, where, random_values(where, small, {"r": 2, "n": 4}))
    from peftref.language.expr import Call, walk

    for node in walk(better):
        if isinstance(node, Call) and node.op not in ("einsum",) and where.kind(node).per == "none":
            assert meter.elements(node) < 768 * 768, show(node)


def test_a_factor_moves_only_along_the_product_that_it_scales() -> None:
    """The same leaf stands in a sum of the other factor: 2 * K may not become 2 * K there."""
    where = scope()
    blocks = Call("block_diag", (Name("K"),))
    total, scaled = Call("add", (Name("W"), blocks)), Call("mul", (Name("alpha"), blocks))
    expr = Call("mul", (Call("matmul", (total, Name("x"))), Call("matmul", (scaled, Name("x")))))
    values = random_values(where, SIZES, SETTINGS)
    better, _ = optimise(expr, Meter(where, SIZES, Load(6, 3, frozenset([*LEAVES, "x", "h"]))))
    np.testing.assert_allclose(Oracle(where, values).evaluate(better), Oracle(where, values).evaluate(expr), atol=1e-9)


STRUCTURED = {
    "W @ (householder(A) @ x)": leaves(A="r,d_in"),
    "W @ (householder(A).T @ x) + b": leaves(A="r,d_in"),
    "W @ householder(Q.T) @ x": leaves(Q="d_in,r"),
    "householder(Q.T) @ h": leaves(Q="d_out,r"),
    "W @ (butterfly(K) @ x)": leaves(K="2,2,d_in / 2,d_in / 2"),
    "W @ (butterfly(K).T @ x)": leaves(K="2,2,d_in / 2,d_in / 2"),
    'x + einsum("m n i j -> (m i) (n j)", circulant(w).T) / d_in @ x': leaves(w="2,2,d_in / 2"),
    "h + 3 * ifft2(scatter(c, at, n=d_out, m=d_in)) @ x": leaves(c="r", at="r"),
    "h + 3 * scatter(c, at, n=d_out, m=d_in) @ x": leaves(c="r", at="r"),
    "h + 3 * scatter(P, at, n=d_in).T @ x": leaves(P="r,d_out", at="r"),
    "W @ ((scatter(c, at, n=d_in, m=d_in) + diag(l)) @ x)": leaves(c="r", at="r", l="d_in"),
}


@pytest.mark.parametrize(("text", "declared"), list(STRUCTURED.items()))
def test_structured_matrices_are_applied_and_never_formed(text: str, declared: dict[str, Leaf]) -> None:
    where = scope_at("attention.query", declared, {"r": 8, "n": 4})
    naive = parse_expression(text)
    better, decisions = optimise(naive, Meter(where, BIG, Load(512, 64, frozenset([*declared, "x"]))))
    small = {"d_in": 8, "d_out": 8, "r": 3, "n": 4}
    assert_same_value(naive, better, where, random_values(where, small, {"r": 3, "n": 4}))
    assert any("structured" in law for decision in decisions for law in decision.laws)
    assert not {"householder", "circulant", "ifft2", "scatter"} & {
        node.op for node in walk(better) if isinstance(node, Call)
    }


@pytest.mark.parametrize(
    "text",
    [
        "(m * (W + 2 * B @ A) / stop_gradient(norm_rows(W + 2 * B @ A))) @ x",
        "(-m * W) @ x",
        "(2 * (W + B @ A) / m) @ x",
        "(m * (W - B @ A) * 3) @ x + b",
    ],
)
def test_factors_of_rows_are_taken_out(text: str) -> None:
    where = scope_at("attention.query", leaves(m="d_out", A="r,d_in", B="d_out,r"), {"r": 8})
    naive, meter = parse_expression(text), Meter(where, BIG, Load(512, 64, frozenset("mABx")))
    better, _ = optimise(naive, meter)
    assert_same_value(naive, better, where, random_values(where, {"d_in": 8, "d_out": 6, "r": 3}, {"r": 3}))
    assert meter.cost(better).flops < 1.1 * meter.cost(parse_expression("W @ x")).flops
    assert meter.cost(better).backward < 1.1 * meter.cost(parse_expression("W @ x")).flops
