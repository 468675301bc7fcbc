"""What scores allow to be said, against scipy's own intervals and tests, and against what is known to be true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from peftref.report.verdict import interval, verdict


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=9).filter(lambda each: np.std(each) > 1e-6), st.integers(1, 9))
def test_intervals_are_those_of_scipy(values: list[float], comparisons: int) -> None:
    found = interval(values, comparisons)
    assert found is not None
    level = 1 - 0.05 / comparisons
    low, high = stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9, abs=1e-12)


def test_equal_techniques_are_seldom_called_different() -> None:
    """Of many studies in which nothing differs, at most a twentieth may claim anything; seeds shift all techniques alike."""
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        shift = generator.normal(0, 0.02, 4)
        scores = {f"t{i}": dict(enumerate(0.8 + shift + generator.normal(0, 0.01, 4))) for i in range(5)}
        wrong += bool(verdict(scores, 0.5).ahead)
    assert wrong / 400 < 0.1  # the best of five is picked by its mean, which the pairs to it do not know


def test_the_case_of_the_wide_spread() -> None:
    """.764 with a spread of .123 beside .873 on two seeds: nothing is claimed, nothing is marked."""
    found = verdict({"lora": {0: 0.677, 1: 0.851}, "full": {0: 0.87, 1: 0.876}}, 0.5)
    assert (found.best, found.ahead, found.marked) == (None, (), frozenset())


def test_no_best_where_nothing_beats_the_guess() -> None:
    scores = {"a": {0: 0.50, 1: 0.55, 2: 0.51}, "b": {0: 0.47, 1: 0.50, 2: 0.49}}
    found = verdict(scores, 0.476)
    assert (found.best, found.marked, set(found.weak)) == (None, frozenset(), {"a", "b"})


def test_what_is_told_apart_is_said_and_marked() -> None:
    scores = {
        "a": {0: 0.900, 1: 0.910, 2: 0.920, 3: 0.915},
        "b": {0: 0.898, 1: 0.913, 2: 0.917, 3: 0.914},
        "c": {0: 0.700, 1: 0.712, 2: 0.718, 3: 0.716},
    }
    found = verdict(scores, 0.5)
    assert (found.best, found.ahead, found.marked) == ("a", ("c",), frozenset("ab"))
