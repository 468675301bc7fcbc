"""Everything that is wrong with a technique is told at once, and nothing that only follows from another mistake."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from peftref.core.problem import PeftrefError, Problem
from peftref.design.load import load, read

MANY = """\
name: mine
title: Mine
settings: {r: 4}
extra: 1
insert:
  - at: [attention.qery, ffn]
    leaves:
      A: {shape: [r, d_in], init: kaiming_unifrm, scope: sight}
      B: {shape: [d_out, r], init: zeros}
      C: {shape: [d_out, rr], init: zeros}
    equation: h' = h + B @ A @ foo(x) + Q
  - at: ffn
    leaves: {D: {shape: [d_model], init: zeros}}
    equation: h' = h + (D
"""
SOUND = [yaml.safe_load(load(name).to_yaml()) for name in ("lora", "compacter", "prefix_mlp", "layernorm")]
JUNK = st.none() | st.booleans() | st.integers(-2, 3) | st.text("h'x@()Ar =", max_size=6) | st.just([]) | st.just({})


def codes(text: str) -> list[str]:
    """The codes of a text's problems, in their order."""
    with pytest.raises(PeftrefError) as caught:
        read(text)
    return [problem.code for problem in caught.value.problems]


def test_faults_of_fields_names_sizes_and_syntax_together() -> None:
    assert codes(MANY) == [
        "unknown-field",
        "unknown-slot",
        "unknown-init",
        "bad-value",
        "unknown-size",
        "unknown-op",
        "unknown-name",
        "syntax",
    ]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (("settings: {r: 4}", "settings: [r, 4]"), ["unknown-field", "unknown-slot", "bad-value", "unknown-init"]),
        (("A: {shape: [r, d_in], ", "A: {shape: {r: 1}, "), ["bad-value"]),
    ],
)
def test_what_follows_from_a_fault_is_not_told(wrong: tuple[str, str], expected: list[str]) -> None:
    found = codes(MANY.replace(*wrong))
    assert set(expected) <= set(found)
    text = MANY.replace(*wrong)
    with pytest.raises(PeftrefError) as caught:
        read(text)
    assert not any(
        problem.text.startswith(("there is no A", "there is no size or setting r "))
        for problem in caught.value.problems
    )


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A sound technique with up to three parts changed, removed or put where they do not belong."""
    data = copy.deepcopy(draw(st.sampled_from(SOUND)))
    for _ in range(draw(st.integers(1, 3))):
        here: Any = data
        for _ in range(draw(st.integers(0, 4))):
            keys = list(here) if isinstance(here, dict) else list(range(len(here))) if isinstance(here, list) else []
            inner = [key for key in keys if isinstance(here[key], dict | list) and here[key]]
            if not inner:
                break
            here = here[draw(st.sampled_from(inner))]
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        if not keys:
            continue
        key = draw(st.sampled_from(keys))
        if draw(st.booleans()):
            here[key] = draw(JUNK)
        elif isinstance(here, dict) and draw(st.booleans()):
            here[draw(st.sampled_from(["name", "r", "extra", "A", "init"]))] = here.pop(key)
        else:
            del here[key]
    return yaml.safe_dump(data)


def faults(text: str) -> tuple[Problem, ...]:
    """The problems of a text; none where it is sound after all."""
    try:
        read(text)
    except PeftrefError as error:
        return tuple(error.problems)
    return ()


@given(damaged())
def test_whatever_is_wrong_is_a_problem_with_a_place(text: str) -> None:
    found = faults(text)
    assert all(problem.place is not None for problem in found)
    lines = [(problem.place.line, problem.place.column) for problem in found if problem.place]
    assert lines == sorted(lines)
    assert len(found) == len({(each.code, each.text, each.place) for each in found})
