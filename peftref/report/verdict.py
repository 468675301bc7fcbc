"""What scores over seeds allow to be said: differences paired by seed, with intervals that hold together for all of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEVEL = 0.95
LEAST = 3
"""The level of all intervals of one verdict together, and the seeds below which nothing is claimed."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with an interval of Student's t around it."""

    mean: float
    low: float
    high: float

    @property
    def claims(self) -> bool:
        """Whether zero is outside."""
        return self.low > 0 or self.high < 0

    def points(self, digits: int = 1) -> str:
        """In points of a hundred, with a sign.

        >>> Interval(0.021, 0.004, 0.039).points()
        '+2.1 points (+0.4 to +3.9)'
        """
        low, high = 100 * self.low, 100 * self.high
        return f"{100 * self.mean:+.{digits}f} points ({low:+.{digits}f} to {high:+.{digits}f})"


def interval(values: Sequence[float], comparisons: int = 1) -> Interval | None:
    """The mean of some values with its interval, wide enough for so many comparisons at once (Bonferroni); None below three values.

    >>> found = interval([0.01, 0.02, 0.03])
    >>> round(found.low, 4), round(found.high, 4)
    (-0.0048, 0.0448)
    """
    if len(values) < LEAST:
        return None
    from scipy import stats

    mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
    reach = float(stats.t.ppf(1 - (1 - LEVEL) / (2 * max(1, comparisons)), len(values) - 1)) * error
    return Interval(mean, mean - reach, mean + reach)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may be said of some techniques.

    best: the one of the highest mean, where it does better than a guess beyond its interval; else None. differences: how far it is
    ahead of each of the others. weak: those of which it is not shown that they do better than a guess.
    """

    best: str | None
    differences: Mapping[str, Interval]
    weak: tuple[str, ...]

    @property
    def ahead(self) -> tuple[str, ...]:
        """Those that the best is ahead of, beyond the interval."""
        return tuple(label for label, each in self.differences.items() if each.claims)

    @property
    def marked(self) -> frozenset[str]:
        """The best with all that it is not told apart from; nothing where it is told apart from none."""
        if self.best is None or not self.ahead:
            return frozenset()
        return frozenset({self.best, *(label for label in self.differences if label not in self.ahead)})


def verdict(scores: Mapping[str, Mapping[int, float]], guess: float | None) -> Verdict:
    """What the scores of techniques by seed say. guess: the score of guessing.

    Techniques are compared on the seeds that they share; those with fewer than three scores are left out.

    >>> high, low = {0: 0.90, 1: 0.91, 2: 0.92}, {0: 0.70, 1: 0.72, 2: 0.71}
    >>> verdict({"lora": high, "ia3": low}, 0.5).ahead
    ('ia3',)
    """
    found = {label: each for label, each in scores.items() if len(each) >= LEAST}
    tests = 2 * len(found) - 1
    weak = []
    for label, each in found.items():
        above = None if guess is None else interval([value - guess for value in each.values()], tests)
        if above is not None and above.low <= 0:
            weak.append(label)
    if not found:
        return Verdict(None, {}, ())
    best = max(found, key=lambda label: statistics.fmean(found[label].values()))
    if best in weak:
        return Verdict(None, {}, tuple(weak))
    differences = {}
    for label, each in found.items():
        shared = [found[best][seed] - each[seed] for seed in found[best] if seed in each]
        if label != best and (between := interval(shared, tests)) is not None:
            differences[label] = between
    return Verdict(best, differences, tuple(weak))


def spoken(found: Verdict, metric: str, means: Mapping[str, float], seeds: int, guess: float | None) -> list[str]:
    """The verdict in sentences."""
    if seeds < LEAST:
        return [f"with {seeds} seed{'s' * (seeds > 1)} nothing is claimed of differences; {LEAST} are the least"]
    lines = []
    if found.best is None:
        lines.append("no technique is shown to do better than guessing the most frequent class of train")
    else:
        lines.append(f"best mean {metric}: {found.best}, {means[found.best]:.4f}")
    for label, each in found.differences.items():
        if each.claims:
            lines.append(f"{found.best} is better than {label}: {each.points()}")
    open_ = {label: each for label, each in found.differences.items() if not each.claims}
    for label, each in open_.items():
        lines.append(f"no difference found between {found.best} and {label}: {each.points()}")
    if guess is not None:
        lines.append(f"guessing the most frequent class of train gives {guess:.4f}")
        if found.weak and found.best is not None:
            lines.append(f"not shown to be better than that guess: {', '.join(found.weak)}")
    lines.append(
        f"intervals: Student's t over {seeds} seeds, paired by seed, {LEVEL:.0%} for all of them together; they speak of other seeds, "
        "not of other test rows"
    )
    return lines
