"""One technique seen as another: only where the two are the same equation, and nothing of the host is in what is computed once."""

from __future__ import annotations

import pytest

from peftref.analyse.fold import fold
from peftref.core.problem import PeftrefError
from peftref.design.load import load
from peftref.design.technique import Technique
from peftref.language.show import show


def at_embedding(equation: str, leaves: dict[str, list[str]]) -> Technique:
    made = {name: {"shape": shape, "init": {"normal": 0.1}} for name, shape in leaves.items()}
    return Technique(name="mine", title="Mine", insert=[{"at": "embedding", "leaves": made, "equation": equation}])


SQUARE = {"Q": ["4", "d_model"], "M": ["d_model", "d_model"]}


def test_what_stands_where_the_leaf_is() -> None:
    found = fold(at_embedding("z = Q @ M; h' = concat(z + Q, h)", SQUARE), load("prompt"))
    assert show(found[0]["embedding"]["P"]) == "Q @ M + Q"
    keys = fold(load("prefix_mlp"), load("prefix"))[0]["attention.core"]
    assert set(keys) == {"Pk", "Pv"}
    assert "Uk" in show(keys["Pk"])
    assert "Uk" not in show(keys["Pv"])


@pytest.mark.parametrize("equation", ["concat(h, Q @ M)", "concat(Q @ M, 2 * h)", "concat(Q @ M, Q, h)"])
def test_another_equation(equation: str) -> None:
    with pytest.raises(PeftrefError, match="no-peer"):
        fold(at_embedding(f"h' = {equation}", SQUARE), load("prompt"))


def test_what_depends_on_the_host_is_not_computed_once() -> None:
    with pytest.raises(PeftrefError, match="no-peer"):
        fold(load("multitask_prompt"), load("prompt"))
    with pytest.raises(PeftrefError, match="no-peer"):
        fold(load("houlsby"), load("prompt"))
    with pytest.raises(PeftrefError, match="no-peer"):
        fold(load("unipelt"), load("prefix"))


def test_one_leaf_is_one_value() -> None:
    rows = ["4", "d_model"]
    two = at_embedding("h' = concat(A, B, h)", {"A": rows, "B": rows})
    one = at_embedding("h' = concat(P, P, h)", {"P": rows})
    assert set(fold(one, two)[0]["embedding"]) == {"A", "B"}
    with pytest.raises(PeftrefError, match="no-peer"):
        fold(two, one)
