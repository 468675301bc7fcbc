"""Generated source computes what the oracle computes, for random expressions and for the example of every op."""

from __future__ import annotations

import doctest
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

import peftref.language.ops.einsum
import peftref.language.source
import peftref.modules.compile.emit
import peftref.modules.compile.functions
import peftref.modules.compile.oracle
from peftref.language.expr import Expr
from peftref.language.parse import parse_expression
from peftref.language.read_size import parse_size
from peftref.language.rewrite.cost import Load, Meter
from peftref.language.rewrite.optimise import optimise
from peftref.language.scope import Leaf, Scope, scope_at
from peftref.modules.compile.emit import Emitter
from peftref.modules.compile.functions import functions
from peftref.modules.compile.oracle import Oracle
from peftref.modules.running.flow import Context, Flow
from tests.language.every_op import EVERY_OP
from tests.language.rewrite.test_rewrite import random_values
from tests.language.strategies import LEAVES, SETTINGS, SIZES, expressions, scope


@pytest.mark.parametrize(
    "module",
    [
        peftref.language.ops.einsum,
        peftref.language.source,
        peftref.modules.compile.emit,
        peftref.modules.compile.functions,
        peftref.modules.compile.oracle,
    ],
)
def test_docstring_examples(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def run(expr: Expr, where: Scope, values: dict, numbers: dict, *, causal: bool = False) -> np.ndarray:  # type: ignore[type-arg]
    tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in values.items() if np.ndim(value)}
    emitter = Emitter(where, numbers, {name: f"leaf_{name}" for name in tensors})
    (result,) = emitter.block([expr])
    names = {f"leaf_{name}": value for name, value in tensors.items()}
    space = {
        "torch": torch,
        "F": F,
        "op": functions(),
        **names,
        "self": SimpleNamespace(training=False, context=Context(Flow(causal=causal))),
    }
    exec("\n".join([*emitter.lines, f"result = {result}"]), space)
    return np.asarray(space["result"])


@settings(max_examples=100, deadline=None)
@given(expressions(3))
def test_source_agrees_with_the_oracle(expr: Expr) -> None:
    where = scope()
    values = random_values(where, SIZES, SETTINGS)
    meter = Meter(where, SIZES, Load(6, 3, frozenset([*LEAVES, "x", "h"])))
    expected = Oracle(where, values).evaluate(expr)
    scale = max(1.0, float(np.abs(expected).max()))
    for form in (expr, optimise(expr, meter)[0]):
        got = run(form, where, values, {**SIZES, **SETTINGS})
        np.testing.assert_allclose(np.broadcast_to(got, expected.shape) / scale, expected / scale, atol=1e-9)


EXAMPLE_LEAVES = {
    name: Leaf(name, tuple(parse_size(dim) for dim in shape.split(",")))
    for name, shape in {
        "A": "r,d_model", "B": "d_model,r", "D": "r,d_model", "S": "n,r,r", "T": "n,r,r", "l": "d_model",
        "beta": "d_model", "Q": "r,r", "P": "tokens,d_model", "z": "d_model", "u": "r * (r - 1) / 2", "K": "2,2,r,r",
        "at": "d_model", "M": "2,n,d_model / n",
    }.items()
}  # fmt: skip


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("row", EVERY_OP, ids=lambda row: row.name)
def test_the_example_of_every_op_agrees_with_the_oracle(row, causal: bool) -> None:  # type: ignore[no-untyped-def]
    given_settings = {"r": 4, "n": 3, "tokens": 2, "dropout": 0.1}
    slot = "attention.query" if " W" in f" {row.example}" or "(W" in row.example else "ffn"
    where = scope_at(slot, EXAMPLE_LEAVES, given_settings)
    numbers = {**given_settings, "d_model": 6, "d_in": 6, "d_out": 6}
    sizes = {name: int(value) for name, value in numbers.items() if isinstance(value, int)}
    values = random_values(where, sizes, given_settings)
    expr = parse_expression(row.example)
    expected = Oracle(where, values, causal).evaluate(expr)
    got = run(expr, where, values, numbers, causal=causal)
    np.testing.assert_allclose(got, np.broadcast_to(expected, got.shape), atol=1e-9)
    assert where.kind(expr).evaluate(sizes) == expected.shape[-len(where.kind(expr).dims) or expected.ndim :]


@pytest.mark.parametrize("text", ["gather(h, at)", "gather(A, at)", "gather(einsum('a, b -> a b', h, l), at)"])
def test_what_is_gathered_is_gathered_for_every_token(text: str) -> None:
    where = scope_at(
        "ffn",
        EXAMPLE_LEAVES | {"A": Leaf("A", (parse_size("d_model"), parse_size("r")))},
        {"r": 4, "n": 3, "tokens": 2},
    )
    numbers = {"r": 4, "n": 3, "tokens": 2, "d_model": 6, "d_in": 6, "d_out": 6}
    values = random_values(where, numbers, {"r": 4, "n": 3, "tokens": 2})
    expr = parse_expression(text.replace("'", '"'))
    np.testing.assert_allclose(run(expr, where, values, numbers), Oracle(where, values).evaluate(expr))


def test_the_gradient_stops_at_all_of_an_operand() -> None:
    """`stop_gradient(a - b)` is not `a - stop_gradient(b)`."""
    where = scope_at("ffn", EXAMPLE_LEAVES, {"r": 4, "n": 3, "tokens": 2})
    emitter = Emitter(where, {"d_model": 6}, {"l": "l", "beta": "beta"})
    gain, beta = (torch.ones(6, requires_grad=True) for _ in range(2))
    source = emitter.expression(parse_expression("l * stop_gradient(l - 2 * beta)"))
    value = eval(source, {"torch": torch, "l": gain, "beta": beta})
    value.sum().backward()
    assert torch.equal(gain.grad, -torch.ones(6))
    assert beta.grad is None
