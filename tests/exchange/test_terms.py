"""Our settings by a peer's fields, and its fields by our settings: each way undoes the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peftref.exchange.terms import read_names, solved, value_of

SIZES = st.integers(1, 4096)
TERMS = [
    "r",
    "max(1, d_model // factor)",
    "d_model // factor",
    "1 / rate",
    "1 / (1 - sparsity)",
    "all - kept",
    "all + kept",
    "(all + 3 * kept) / 2",
]


@given(st.sampled_from(TERMS), st.integers(1, 512), SIZES, SIZES)
def test_a_field_that_is_solved_for_gives_its_setting_back(text: str, setting: int, more: int, kept: int) -> None:
    known = {"d_model": setting + more, "kept": kept}
    known = {name: value for name, value in known.items() if name in read_names(text)}
    found = solved(text, setting, known)
    assert value_of(text, known | found) == setting


@given(st.integers(1, 512), st.integers(1, 4096))
def test_a_share_of_entries_comes_to_the_same_number_when_it_is_rounded_down(per: int, entries: int) -> None:
    rate = solved("1 / rate", per, {})["rate"]
    assert int(per * entries * rate) == entries
    sparsity = solved("1 / (1 - sparsity)", per, {})["sparsity"]
    assert value_of("1 / (1 - sparsity)", {"sparsity": sparsity}) == per


@given(st.sampled_from(TERMS[1:]), st.sampled_from([None, "x", True, [1], {"a": 1}]))
def test_what_is_no_number_gives_none(text: str, value: object) -> None:
    assert value_of(text, dict.fromkeys(read_names(text), value)) is None
