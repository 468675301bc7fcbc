"""Set mathematics: every op has a notation, what is written is well formed, and parentheses stand where they are needed."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given

from peftref.design.insertion import insertions
from peftref.design.load import techniques
from peftref.language.expr import Call, Name, walk
from peftref.language.op import Op
from peftref.language.parse import parse, parse_expression
from peftref.language.read_size import parse_size
from peftref.language.typeset.box import Hole
from peftref.language.typeset.latex import latex, latex_box
from peftref.language.typeset.mathml import mathml, mathml_lines
from peftref.language.typeset.notate import arithmetic, lines, notate
from peftref.language.typeset.template import template
from tests.language.every_op import EVERY_OP
from tests.language.strategies import expressions, scope


def read(markup: str) -> str:
    """The characters of MathML as they stand one after the other, without those that take no ink."""
    text = "".join(ElementTree.fromstring(markup).itertext())
    return "".join(letter for letter in text if letter not in "\u2061\u2062")


def balanced(text: str) -> bool:
    depth = 0
    for before, letter in zip(f" {text}", text, strict=False):
        if before != "\\":
            depth += {"{": 1, "}": -1}.get(letter, 0)
        if depth < 0:
            return False
    return depth == 0 and text.count(r"\left") == text.count(r"\right")


@pytest.mark.parametrize("op", EVERY_OP, ids=lambda op: op.name)
def test_every_op_is_set(op: Op) -> None:
    """The example of an op names all that it reads, in MathML and in LaTeX, and leaves no place open."""
    expr = parse_expression(op.example)
    found, text = notate(expr), latex(expr)
    assert "Hole" not in repr(found)
    assert balanced(text)
    shown = read(mathml(found))
    operands = [node for arg in getattr(expr, "args", ()) for node in walk(arg)]
    for node in operands if op.name != "edges" else ():  # the tokens themselves are not read
        if isinstance(node, Name) and len(node.name) == 1:
            assert node.name in shown, f"{op.example}: {node.name} is not in {shown}"


@pytest.mark.parametrize("op", [op for op in EVERY_OP if op.latex], ids=lambda op: op.name)
def test_a_notation_has_a_place_for_every_operand_it_needs(op: Op) -> None:
    boxes = repr(template(op.latex or ""))
    fields = {part.split("'")[1] for part in boxes.split("Hole(field=")[1:]}
    assert Hole("0").field in fields or "operands" in fields or op.name == "edges"
    assert {field for field in fields if not field.isdigit()} <= {"operands", *op.options}


@given(expressions())
def test_any_expression_is_set(expr) -> None:  # type: ignore[no-untyped-def]
    where = scope()
    ElementTree.fromstring(mathml(notate(expr, where)))
    assert balanced(latex(expr, where))


@pytest.mark.parametrize("technique", techniques(), ids=lambda each: each.name)
def test_every_equation_is_set(technique) -> None:  # type: ignore[no-untyped-def]
    for insertion in insertions(technique):
        found = lines(insertion.equation, insertion.scope)
        ElementTree.fromstring(mathml_lines(found))
        assert all(balanced(latex_box(side)) for pair in found for side in pair)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a - (b - c)", "a−(b−c)"),
        ("a - (b + c)", "a−(b+c)"),
        ("(a + b) @ x", "(a+b)x"),
        ("B @ (A @ x)", "BAx"),
        ("l * (A @ x)", "l⊙(Ax)"),
        ("(l * B) @ x", "(l⊙B)x"),
        ("A @ (l * x)", "A(l⊙x)"),
        ("(B @ A).T", "(BA)⊤"),
        ("(-a) ** 2", "(−a)2"),
        ("a - -b", "a−(−b)"),
        ("kron(A + B, C)", "(A+B)⊗C"),
        ("kron(A, B) @ x", "(A⊗B)x"),
        ("2 * a * 3", "2a⋅3"),
        ("A.T.T", "(A⊤)⊤"),
        ("0.00001 + a", "10−5+a"),
        ("2 * kron(A, B)", "2A⊗B"),
        ("l * kron(A, B)", "l⊙(A⊗B)"),
        ("relu(A @ x) ** 2", "ReLU(Ax)2"),
    ],
)
def test_parentheses_stand_where_they_are_needed(text: str, shown: str) -> None:
    assert read(mathml(notate(parse_expression(text)))) == shown


def test_a_number_is_told_from_a_vector_by_its_shape() -> None:
    where = scope()
    number = next(name for name, entry in where.entries.items() if not entry.kind.dims and entry.role == "setting")
    vector = next(name for name, entry in where.entries.items() if len(entry.kind.dims) == 1 and entry.role == "leaf")
    for name, sign in ((number, ""), (vector, "⊙")):
        assert ("⊙" in read(mathml(notate(Call("mul", (Name(name), Name("h"))), where)))) == bool(sign)


def test_contractions_are_set_with_their_axes() -> None:
    found = lines(parse('C = einsum("o r, r i -> o i", B, A)'))[0]
    assert read(mathml(found[0])) == "Coi"
    assert read(mathml(found[1])) == "∑rBorAri"
    assert latex(parse_expression('einsum("(a b), b -> a", x, y)')) == r"\left[\sum_{b}x_{(ab)} y_{b}\right]_{a}"


def test_a_size_is_set_as_arithmetic() -> None:
    size = parse_size("2 * d_model * (r + d_in // 4) + ceil(d_out / r)")
    assert read(mathml(arithmetic(parse_expression(size.show())))) == "2⌊din4⌋dmodel+2dmodelr+⌈doutr⌉"


def test_what_is_no_notation_is_refused() -> None:
    for text in (r"\nonsense({0})", r"({0}", r"\operatorname x"):
        with pytest.raises(ValueError, match=r"notation|group"):
            template(text)
