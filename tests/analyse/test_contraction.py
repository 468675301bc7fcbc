"""Contractions with known factors, against the contraction itself."""

from __future__ import annotations

import numpy as np
import pytest

from peftref.analyse.contraction import contraction
from peftref.language.expr import Call, Expr, Name, Number, Text, walk
from peftref.language.parse import parse_expression

EYE = Name("I")
SIZES = {"a": 3, "b": 3, "c": 3, "d": 2}


def value(expr: Expr, arrays: dict[str, np.ndarray], shape: tuple[int, ...] = ()) -> np.ndarray:
    match expr:
        case Number(1):
            return np.ones(shape)
        case Name(name):
            return arrays[name]
        case Call("einsum", (Text(text), *args)):
            left, _, right = text.partition("->")
            letters = {index: chr(97 + i) for i, index in enumerate(dict.fromkeys(left.replace(",", " ").split()))}
            words = [[letters[index] for index in part.split()] for part in left.split(",")]
            named = {letters[index]: SIZES[index[0]] for index in letters}
            given = [
                value(arg, arrays, tuple(named[one] for one in word)) for arg, word in zip(args, words, strict=True)
            ]
            return np.einsum(
                f"{','.join(map(''.join, words))}->{''.join(letters[index] for index in right.split())}", *given
            )
    raise AssertionError(expr)


@pytest.mark.parametrize(
    ("text", "simpler"),
    [
        ('einsum("a, a -> a", 1, u)', True),
        ('einsum("a d, a -> a", 1, u)', False),
        ('einsum("a b, b -> a", I, u)', True),
        ('einsum("a b, b d -> a d", I, M)', True),
        ('einsum("a b, b -> a b", I, u)', False),
        ('einsum("a b, a -> a", I, u)', True),
        ('einsum("a b, d -> a d", I, v)', False),
        ('einsum("a b, b -> a", einsum("d, a b -> a b", v, I), u)', True),
        ('einsum("a b, b c, c -> a", I, I, u)', True),
        ('einsum("a b, b -> a", einsum("a d, b d -> a b", M, M), u)', False),
    ],
)
def test_the_value_stays(text: str, simpler: bool) -> None:
    seed = np.random.default_rng(0)
    arrays = {"I": np.eye(3), "u": seed.normal(size=3), "v": seed.normal(size=2), "M": seed.normal(size=(3, 2))}
    expr = parse_expression(text)
    assert isinstance(expr, Call)
    found = contraction(expr, EYE)
    np.testing.assert_allclose(value(found, arrays), value(expr, arrays), rtol=1e-12)
    count = sum(isinstance(node, Name | Number) for node in walk(expr))
    assert (sum(isinstance(node, Name | Number) for node in walk(found)) < count) == simpler
