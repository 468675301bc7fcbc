"""Text to tree and back to numbers: precedence, sizes, places of mistakes."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

import peftref.language
from peftref.core.problem import PeftrefError
from peftref.language.expr import Call, Name
from peftref.language.parse import parse, parse_expression
from peftref.language.read_size import parse_size
from peftref.language.size import Size

MODULES = [f"peftref.language.{module.name}" for module in pkgutil.iter_modules(peftref.language.__path__)]


@pytest.mark.parametrize("module", [*MODULES, "peftref.core.problem"])
def test_docstring_examples(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_products_associate_to_the_left() -> None:
    expr = parse_expression("B @ A @ x")
    assert expr == Call("matmul", (Call("matmul", (Name("B"), Name("A"))), Name("x")))


def test_minus_binds_looser_than_power() -> None:
    assert parse_expression("-a ** 2") == Call("neg", (parse_expression("a ** 2"),))


@pytest.mark.parametrize(
    ("text", "column"),
    [("h' = h + (B @ A", 10), ("h = ^", 5), ("h' h", 4), ("h' = h'", 7), ("= 3", 1), ("h' = f(a b)", 10)],
)
def test_a_mistake_has_its_place(text: str, column: int) -> None:
    with pytest.raises(PeftrefError) as caught:
        parse(text)
    place = caught.value.problems[0].place
    assert place is not None
    assert place.column == column


def test_every_statement_that_is_wrong_is_reported() -> None:
    with pytest.raises(PeftrefError) as caught:
        parse("a = b +\nc = )\nh' = h")
    assert [problem.place.line for problem in caught.value.problems if problem.place] == [1, 2]


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(PeftrefError, match="nests deeper"):
        parse_expression("(" * 500 + "a" + ")" * 500)


names = st.sampled_from(["r", "d_in", "d_out", "n"])


@st.composite
def sizes(draw: st.DrawFn, depth: int = 3) -> str:
    if depth == 0 or draw(st.booleans()):
        return draw(names | st.integers(1, 9).map(str))
    left, right = draw(sizes(depth=depth - 1)), draw(sizes(depth=depth - 1))
    return draw(
        st.sampled_from([f"({left} + {right})", f"({left} * {right})", f"({left} - {right})", f"min({left}, {right})"])
    )


VALUES = {"r": 3, "d_in": 10, "d_out": 7, "n": 2}


@given(sizes())
def test_sizes_agree_with_python(text: str) -> None:
    assert parse_size(text).evaluate(VALUES) == eval(text, {"min": min, "__builtins__": {}}, VALUES)


@given(sizes())
def test_a_shown_size_reads_back_as_itself(text: str) -> None:
    size = parse_size(text)
    assert parse_size(size.show()) == size


def test_exact_division_cancels() -> None:
    n, d = Size.symbol("n"), Size.symbol("d")
    assert n * (d / n) == d
    with pytest.raises(PeftrefError, match="indivisible"):
        (d / n).evaluate({"n": 4, "d": 10})
