"""A leaf with its own value and another one's gradient: equal to the literal form in both, and the other value is never computed."""

from __future__ import annotations

import doctest
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import peftref.modules.compile.steered
from peftref.design.load import load
from peftref.language.expr import Call, Expr, walk
from peftref.language.parse import parse_expression
from peftref.language.read_size import parse_size
from peftref.language.rewrite.cost import Load, Meter
from peftref.language.rewrite.optimise import optimise
from peftref.language.scope import Leaf, scope_at
from peftref.modules.compile.emit import Emitter
from peftref.modules.compile.functions import functions
from peftref.modules.compile.steered import steered
from peftref.report.code import code_of

SIZES = {"d_in": 5, "d_out": 6, "r": 3, "k": 2}
SHAPES = {"U": "d_out, r", "V": "r, d_in", "L": "d_out, k", "R": "k, d_in", "M": "r, r", "s": "k"}
WHERE = scope_at(
    "attention.query",
    {name: Leaf(name, tuple(parse_size(dim) for dim in shape.split(","))) for name, shape in SHAPES.items()},
    {"r": 3, "k": 2},
)
LITERAL = "({map} + stop_gradient({leaf} - ({map})))"
STEERED = {
    "U - L @ (L.T @ U)": "U",
    "V - V @ R.T @ R": "V",
    "(V.T @ M).T": "V",
    "2 * (U @ M) / 3 - U": "U",
    "-(M @ M.T @ V)": "V",
    "L @ diag(s) @ L.T @ U": "U",
}
NOT = {"U * U": "U", "tanh(U)": "U", "U @ (V @ R.T @ R @ V.T)": "U"}
"""Not linear, twice; and another leaf learns beside it."""


def expression(text: str, leaf: str) -> Expr:
    literal = LITERAL.format(map=text, leaf=leaf)
    return parse_expression(f"h + {literal} @ (M @ (V @ x))" if leaf == "U" else f"h + U @ ({literal} @ x)")


def gradients(expr: Expr) -> tuple[Tensor, dict[str, Tensor]]:
    """The value of generated source, and the gradient of what is trained."""
    generator = torch.Generator().manual_seed(0)
    entries = {name: one for name, one in WHERE.entries.items() if one.role in ("leaf", "quantity")}
    values = {}
    for name, entry in entries.items():
        lead = () if entry.kind.per == "none" else (2, 4)
        values[name] = torch.randn(*lead, *entry.kind.evaluate(SIZES), dtype=torch.double, generator=generator)
    learning = {name: values[name].requires_grad_() for name in ("U", "V", "x")}
    emitter = Emitter(WHERE, SIZES, {name: f"self.{name}" for name in values})
    (result,) = emitter.block([expr])
    space = {"torch": torch, "F": F, "op": functions(), "self": SimpleNamespace(**values)}
    exec("\n".join([*emitter.lines, f"result = {result}"]), space)
    made = space["result"]
    assert isinstance(made, Tensor)
    made.square().sum().backward()
    return made, {name: value.grad for name, value in learning.items() if value.grad is not None}


def best(expr: Expr) -> Expr:
    return optimise(expr, Meter(WHERE, SIZES, Load(8, 4, frozenset("UVxh"))))[0]


def steers(expr: Expr) -> bool:
    return any(isinstance(node, Call) and node.op == "steered" for node in walk(expr))


@pytest.mark.parametrize(("text", "leaf"), [*STEERED.items(), *NOT.items()])
def test_value_and_gradients_are_those_of_the_literal_form(text: str, leaf: str) -> None:
    naive = expression(text, leaf)
    found = best(naive)
    assert steers(found) == (text in STEERED)
    (value, slopes), (expected, wanted) = gradients(found), gradients(naive)
    torch.testing.assert_close(value, expected)
    assert slopes.keys() == wanted.keys()
    for name, slope in slopes.items():
        torch.testing.assert_close(slope, wanted[name])


def test_projected_factors_are_not_computed_forward() -> None:
    """OSF's equation says that gradients are projected; each projection stands in a function of the gradient."""
    lines = code_of(load("osf"), "bert-base").splitlines()
    projecting = [line.strip() for line in lines if "self.L" in line and "=" not in line]
    assert projecting
    assert all(line.startswith("return gradient") for line in projecting)


def test_docstring_examples() -> None:
    assert doctest.testmod(peftref.modules.compile.steered).failed == 0


def test_no_gradient_is_turned_where_none_is_wanted() -> None:
    frozen, leaf = torch.ones(2), torch.ones(2, requires_grad=True)
    assert steered(frozen, torch.neg) is frozen
    with torch.no_grad():
        assert steered(leaf, torch.neg) is leaf


def test_it_compiles_whole() -> None:
    matrix, leaf = torch.randn(3, 3), torch.randn(3, 2, requires_grad=True)

    def total(leaf: Tensor) -> Tensor:
        def turn(gradient: Tensor) -> Tensor:
            return matrix @ gradient

        return steered(leaf, turn).square().sum()

    torch.compile(total, fullgraph=True, backend="aot_eager")(leaf).backward()
    torch.testing.assert_close(leaf.grad, matrix @ (2 * leaf.detach()))
