"""A budget of trained parameters: each technique's size setting is searched through its count, and nothing is built."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peftref.core.problem import PeftrefError, fail

_UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}
_LARGEST = 1 << 24
_GAP = 64  # how far apart two sizes that a technique accepts may stand


@dataclass(frozen=True, slots=True)
class Fit:
    """A technique sized to a budget: the technique, its size setting and value (None where it has none), what it trains,
    and a sentence that says what was asked and what was reached."""

    technique: Any
    setting: str | None
    value: int | None
    trained: int
    note: str


def parse_budget(text: str | int | float, host_parameters: int) -> int:
    """A budget as a number of parameters: `0.5%` of the host, or a number with k, M or B behind it. PeftrefError `bad-budget`.

    >>> parse_budget("0.5%", 1_000_000), parse_budget("20k", 1), parse_budget(300, 1)
    (5000, 20000, 300)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%|[kKmMbB]?)\s*", str(text))
    hint = "write a share of the host (0.5%) or a number of parameters (20000, 20k, 1.5M)"
    if found is None:
        raise fail("bad-budget", f"'{text}' is no budget", hint=hint)
    number, unit = float(found[1]), found[2].lower()
    target = round(number / 100 * host_parameters) if unit == "%" else round(number * _UNITS[unit])
    if target < 1 or (unit != "%" and number * _UNITS[unit] < 1):
        raise fail("bad-budget", f"a budget of {text} is less than one parameter", hint=hint)
    return target


def fit_budget(
    technique: Any,
    setting: str | None,
    ceiling: int,
    resize: Callable[[str, int], Any],
    trained: Callable[[Any], int],
    start: int = 1,
) -> Fit:
    """The largest form of a technique that trains no more than the ceiling.

    setting: the size setting to turn. resize(setting, value) gives the technique at another size, trained(technique)
    its count, which must not fall when the size grows. Sizes that the technique refuses are passed over. Where nothing is small
    enough, or there is no setting to turn, the note says so, and `Fit.trained` is above the ceiling.
    """
    if setting is None:
        count = trained(technique)
        return Fit(technique, None, None, count, f"has no size setting: {_reached(count, ceiling)}")
    known: dict[int, tuple[int, Any] | None] = {}

    def at(value: int) -> tuple[int, Any] | None:
        if value not in known:
            try:
                sized = resize(setting, value)
                known[value] = (trained(sized), sized)
            except PeftrefError:
                known[value] = None
        return known[value]

    def largest(low: int, high: int) -> tuple[int, tuple[int, Any]] | None:
        """The nearest accepted size from high down to low."""
        return next(((value, one) for value in range(high, low - 1, -1) if (one := at(value)) is not None), None)

    def fits(value: int) -> bool:
        near = largest(max(start, value - _GAP), value)
        return near is not None and near[1][0] <= ceiling

    low = next((value for value in range(start, start + _GAP) if at(value) is not None), None)
    if low is None:
        count = trained(technique)
        return Fit(technique, None, None, count, f"could not be resized by {setting}: {_reached(count, ceiling)}")
    high = low
    while high < _LARGEST and fits(high):
        high *= 2
    below, above = low, high
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if fits(middle) else (below, middle)
    around = largest(max(low, below - _GAP), below)
    assert around is not None
    value, (count, sized) = around
    edge = " (its smallest)" if count > ceiling else ""
    return Fit(sized, setting, value, count, f"{setting} = {value}{edge}: {_reached(count, ceiling)}")


def _reached(count: int, ceiling: int) -> str:
    return f"{count:,} trained, at most {ceiling:,} asked ({count / ceiling - 1:+.1%})"
