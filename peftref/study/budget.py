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
    target: int,
    resize: Callable[[str, int], Any],
    trained: Callable[[Any], int],
    start: int = 1,
) -> Fit:
    """The technique whose count of trained parameters is nearest to the target.

    setting: the size setting to turn. resize(setting, value) gives the technique at another size, trained(technique)
    its count, which must not fall when the size grows. Sizes that the technique refuses are passed over. The smaller size
    wins a tie.
    """
    if setting is None:
        count = trained(technique)
        return Fit(technique, None, None, count, f"has no size setting: {count:,} trained, {target:,} asked")
    known: dict[int, tuple[int, Any] | None] = {}

    def at(value: int) -> tuple[int, Any] | None:
        if value not in known:
            try:
                sized = resize(setting, value)
                known[value] = (trained(sized), sized)
            except PeftrefError:
                known[value] = None
        return known[value]

    def below_target(value: int) -> bool:
        near = next((one for size in range(value, max(start, value - _GAP) - 1, -1) if (one := at(size))), None)
        return near is not None and near[0] < target

    low = next((value for value in range(start, start + _GAP) if at(value) is not None), None)
    if low is None:
        count = trained(technique)
        return Fit(
            technique, None, None, count, f"could not be resized by {setting}: {count:,} trained, {target:,} asked"
        )
    high = low
    while high < _LARGEST and below_target(high):
        high *= 2
    below, above = low, high
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if below_target(middle) else (below, middle)
    around = range(max(low, below - _GAP), above + _GAP)
    sizes = [
        (abs(one[0] - target), value, one) for value in _nearest(around, below, at) if (one := at(value)) is not None
    ]
    _, value, (count, sized) = min(sizes, key=lambda entry: entry[:2])
    edge = " (its smallest)" if value == low and count > target else ""
    note = f"{setting} = {value}{edge}: {count:,} trained, {target:,} asked ({count / target - 1:+.1%})"
    return Fit(sized, setting, value, count, note)


def _nearest(around: range, middle: int, at: Callable[[int], object | None]) -> list[int]:
    """The accepted size at or under a middle, and the one above it."""
    under = next((value for value in range(middle, around.start - 1, -1) if at(value) is not None), None)
    over = next((value for value in range(middle + 1, around.stop) if at(value) is not None), None)
    return [value for value in (under, over) if value is not None]
