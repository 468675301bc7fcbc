"""How many components are left after a number of steps: all at first, then on a cubic way down to a target (arXiv 1710.01878)."""

from __future__ import annotations


def steps_of(told: float, total: int) -> int:
    """Steps that are told as a number, or below 1 as a share of all.

    >>> steps_of(0.25, 200), steps_of(10, 200)
    (50, 10)
    """
    return round(told * total) if told < 1 else int(told)


def left_over(first: int, last: int, done: int, steps: int) -> int:
    """How many of the first are left after some of the steps on the way to the last.

    >>> [left_over(10, 2, done, 4) for done in range(5)]
    [10, 5, 3, 2, 2]
    """
    return int((first - last) * (1 - done / steps) ** 3 + last) if steps > 0 else last
