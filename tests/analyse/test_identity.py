"""Identity at init against the oracle: with leaves sampled by their inits, yes changes nothing, near little, and no changes something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from peftref.analyse.form import replaced
from peftref.analyse.identity import identity
from peftref.design.insertion import insertions
from peftref.design.load import load, read, techniques
from peftref.design.procedures import PROCEDURES
from peftref.design.technique import Technique
from peftref.language.expr import Call, names
from peftref.language.scope import Leaf
from peftref.modules.compile.oracle import Array, Oracle

SIZES = {
    "d_in": 8, "d_out": 8, "d_model": 8, "d_ff": 8, "n_heads": 2, "n_kv_heads": 2, "d_head": 4, "d_value": 4,
    "vocab": 9, "n_layers": 2,
}  # fmt: skip
SMALL = {
    "d": 4,
    "first": 1,
    "last": 1,
    "block": 4,
    "vectors": 6,
    "length": 4,
    "k": 2,
    "r": 4,
    "tokens": 3,
    "bottleneck": 8,
    "n": 4,
    "rank": 1,
    "group": 4,
}


def start(
    leaf: Leaf, shape: tuple[int, ...], weight: Array, seed: np.random.Generator, settings: Mapping[str, object]
) -> Array:
    """First values of a leaf, by the definition of its init."""
    arguments: dict[str, Any] = {name: settings.get(str(value), value) for name, value in leaf.init_args}
    match leaf.init:
        case "zeros":
            return np.zeros(shape)
        case "ones":
            return np.ones(shape)
        case "constant":
            return np.full(shape, float(arguments["value"]))
        case "identity":
            return np.eye(shape[0])
        case "copy":
            return weight
        case "norm_rows":
            return np.asarray(np.linalg.norm(weight, axis=1))
        case "svd_values":
            return np.abs(seed.normal(size=shape))
        case "uniform":
            return seed.uniform(-1.0, 1.0, size=shape) * float(arguments["bound"])
        case "random_positions" | "largest":
            return seed.permutation(weight.size)[: shape[0]].astype(float)
        case "random_indices":
            return seed.integers(0, int(arguments["below"]), size=shape).astype(float)
        case "quarter_turn":
            return np.array([[0.0, -1.0], [1.0, 0.0]])
        case "paired_columns":
            return np.repeat(seed.normal(size=(shape[0], shape[1] // 2)), 2, axis=1)
    return seed.normal(size=shape) * float(arguments.get("std", 1.0))


def change(technique: Technique) -> float:
    """How far the first values move what is replaced, at most, over all insertions and slots."""
    seed, largest = np.random.default_rng(0), 0.0
    carried: dict[str, Array] = {}
    for insertion in insertions(technique):
        for effect in insertion.effects.values():
            values: dict[str, Array | float] = {
                **{name: float(size) for name, size in SIZES.items()},
                **{name: float(value) for name, value in technique.settings.items() if isinstance(value, int | float)},
            }
            numbers = SIZES | {k: v for k, v in technique.settings.items() if isinstance(v, int)}
            for name, entry in effect.scope.entries.items():
                if entry.role == "quantity":
                    shape = entry.kind.evaluate(numbers)
                    values[name] = seed.normal(size=(1, 3, *shape) if entry.kind.per == "token" else shape)
            for name in effect.carried:
                values[name] = carried.get(name, np.zeros_like(values[name]))
            if effect.kind == "linear":
                values["h"] = np.asarray(values["x"]) @ np.asarray(values["W"]).T + values["b"]
            for name in {name for value in effect.values.values() for name in names(value) if "." in name}:
                entry = effect.scope.entry(name)
                assert entry is not None
                values[name] = seed.normal(size=entry.kind.evaluate(numbers))
            made: dict[object, Array] = {}
            for name, leaf in insertion.leaves.items():
                shape = effect.scope.entries[name].kind.evaluate(numbers)
                value = start(leaf, shape, np.asarray(values.get("W", 0.0)), seed, technique.settings)
                same = (leaf.init, leaf.init_args, shape) if leaf.init.startswith(("svd", "qr")) else name
                values[name] = made.setdefault(same, value)
            for name, value in replaced(effect).items():
                if name in effect.carried:  # the host never sees it as it is
                    carried[name] = Oracle(effect.scope, values).evaluate(value)
                    continue
                if isinstance(value, Call) and value.op == "concat":
                    return float("inf")
                moved = Oracle(effect.scope, values).evaluate(value) - np.asarray(values[name])
                largest = max(largest, float(np.abs(moved).max()))
    return largest


def check(technique: Technique, answer: str) -> None:
    moved = change(technique)
    assert {"yes": moved < 1e-9, "near": 1e-10 < moved < 0.5, "no": moved > 1e-3, "open": True}[answer], moved


PLAIN = [each for each in techniques() if all(PROCEDURES[one.name].keeps for one in each.procedures)]
"""What a procedure moves at the start is seen on a host, in tests/modules/procedures."""


@pytest.mark.parametrize("technique", PLAIN, ids=lambda technique: technique.name)
def test_the_catalog_starts_as_it_is_said_to(technique: Technique) -> None:
    small = technique.with_settings(**{k: v for k, v in SMALL.items() if k in technique.settings})
    check(small, identity(small).answer)


A, B = "A: {shape: [r, d_in], init: {normal: 0.5}}", "B: {shape: [d_out, r], init: zeros}"
DESIGNS = [
    ("yes", f"{A}, {B}, m: {{shape: [d_out], init: {{norm_rows: W}}}}", "V = W + B @ A; W' = m * V / stop_gradient(norm_rows(V))"),
    ("yes", "Q: {shape: [d_in, d_in], init: zeros}", "W' = W @ cayley(Q - Q.T)"),
    ("yes", "Q: {shape: [r, d_in / r, d_in / r], init: zeros}", "W' = W @ block_diag(cayley(Q))"),
    ("yes", "l: {shape: [d_in], init: ones}", "x' = diag(l) @ x"),
    ("yes", "R: {shape: [d_in, d_in], init: identity}", "W' = W @ R.T"),
    ("yes", "V: {shape: [d_out, d_in], init: {copy: W}}", "W' = V"),
    ("yes", f"{A}, {B}", "W' = W * (1 + B @ A)"),
    ("no", "U: {shape: [r, d_in], init: {normal: 1.0}}", "W' = W @ householder(U)"),
    ("no", "K: {shape: [r, d_in / r, d_in / r], init: ones}", "W' = W @ block_diag(K)"),
    ("no", f"{A}, {B}", "h' = B @ A @ x"),
    ("no", f"{A}, {B.replace('zeros', '{normal: 0.5}')}", "h' = h + B @ A @ x"),
    ("near", f"{A.replace('0.5', '0.01')}, {B.replace('zeros', '{normal: 0.01}')}", "h' = h + B @ A @ x"),
    ("no", "l: {shape: [d_out], init: zeros}", "h' = l * h"),
    ("no", "l: {shape: [d_out], init: zeros}", "h' = h + sigmoid(l)"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "leaves", "equation"), DESIGNS)
def test_designs_start_as_they_are_said_to(answer: str, leaves: str, equation: str) -> None:
    quoted = equation.replace("'", "''")
    settings = "{r: 2}" if "[r" in leaves or ", r]" in leaves else "{}"
    technique = read(
        f"{{name: m, title: M, settings: {settings}, insert: [{{at: ffn.up, leaves: {{{leaves}}}, equation: '{quoted}'}}]}}"
    )
    assert identity(technique).answer == answer
    check(technique, answer)


def test_the_reason_names_the_leaf() -> None:
    assert identity(load("lora")).reason == "B starts at zero, so h' = h"
    assert identity(load("ia3")).reason == "l starts at one, so h' = h"
