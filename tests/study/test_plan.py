"""What a run is named by, and how a learning rate is chosen: without torch, without training."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftref.core.problem import fail
from peftref.study.budget import fit_budget
from peftref.study.plan import Run, choose_lr, next_lr

RUN = Run(
    stage="final",
    label="lora",
    definition="d",
    host="h",
    data="x",
    metric="accuracy",
    max_length=64,
    batch_size=32,
    steps=10,
    eval_every=5,
    warmup=0.06,
    weight_decay=0.0,
    clip=1.0,
    lr=0.001,
    seed=0,
)


def record(lr: float, score: float | None) -> dict[str, Any]:
    """A tuning record; no score where the run diverged."""
    dev = None if score is None else {"score": score, "loss": 1.0}
    return {"status": "diverged" if score is None else "finished", "run": {"lr": lr}, "dev": dev}


@pytest.mark.parametrize("field", [name for name in Run.model_fields if name != "label"])
def test_every_field_of_a_run_changes_its_name(field: str) -> None:
    value = getattr(RUN, field)
    other = "tune" if field == "stage" else value + "x" if isinstance(value, str) else value + 1
    assert RUN.model_copy(update={field: other}).id != RUN.id


def test_the_label_changes_no_name() -> None:
    assert RUN.model_copy(update={"label": "mine"}).id == RUN.id


@given(st.dictionaries(st.sampled_from([1e-4, 3e-4, 1e-3, 3e-3, 1e-2]), st.none() | st.floats(0, 1), min_size=1))
def test_the_best_finished_rate_is_chosen(scores: dict[float, float | None]) -> None:
    chosen = choose_lr([record(lr, score) for lr, score in scores.items()])
    finished = {lr: score for lr, score in scores.items() if score is not None}
    if not finished:
        assert chosen is None
    else:
        assert chosen is not None
        assert finished[chosen] == max(finished.values())


@given(st.lists(st.sampled_from([1e-4, 1e-3, 3e-3, 1e-2]), min_size=1, unique=True), st.integers(0, 3), st.data())
def test_rates_are_tried_once_and_at_most_so_many_more(grid: list[float], widen: int, data: st.DataObject) -> None:
    tried: list[dict[str, Any]] = []
    while (lr := next_lr(grid, tried, widen)) is not None:
        assert lr not in [one["run"]["lr"] for one in tried]
        tried.append(record(lr, data.draw(st.none() | st.floats(0, 1))))
        assert len(tried) <= len(grid) + widen
    rates = [one["run"]["lr"] for one in tried]
    assert set(grid) <= set(rates)
    best = choose_lr(tried)
    inside = best is not None and min(rates) < best < max(rates)
    assert inside or len(rates) == len(grid) + widen


@given(
    slope=st.integers(1, 900),
    base=st.integers(0, 5000),
    step=st.sampled_from([1, 2, 3, 8]),
    target=st.integers(1, 300_000),
)
def test_a_budget_is_a_ceiling_and_the_largest_size_below_it_is_found(
    slope: int, base: int, step: int, target: int
) -> None:
    def resize(_: str, value: int) -> int:
        if value % step:
            raise fail("setting-size", "not divisible")
        return value

    found = fit_budget(0, "r", target, resize, lambda size: base + slope * size)
    below = [size for size in range(step, 300_000 // slope + 2 * step, step) if base + slope * size <= target]
    assert found.value == (below[-1] if below else step)
    assert (found.trained <= target) == bool(below)
    assert ("smallest" in found.note) == (not below)
    assert found.value is not None
    assert found.trained == base + slope * found.value
