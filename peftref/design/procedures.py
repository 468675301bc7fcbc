"""The table of procedures: what a technique does that no equation says, as named hooks. One row per procedure. No torch.

A procedure runs at three moments: `begin`, when leaves get first values from the host's weights or from a few batches;
`penalty`, a number that is added to the loss; `step`, after every step of the optimizer, while the gradients are still there.
To add one: a row here, and the functions of its moments in a file of `peftref/modules/procedures`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from peftref.core.problem import PeftrefError, Problem, nearest
from peftref.design.technique import Insert, Procedure, Technique

Moment = Literal["begin", "penalty", "step"]
Value = int | float | str


@dataclass(frozen=True, slots=True)
class Told:
    """A setting of a procedure: the name of a leaf, a number from `least` up to and without `below`, or one of some words.

    A number and a word may be given by the name of a setting of the technique. No default: it must be given.
    """

    name: str
    kind: Literal["leaf", "number", "word"]
    about: str
    default: Value | None = None
    least: float = 0.0
    below: float = float("inf")
    words: tuple[str, ...] = ()

    def wrong(self, value: object) -> str | None:
        """What is wrong with a value, in words, or None."""
        if self.kind == "leaf":
            return None if isinstance(value, str) else "is the name of a leaf"
        if self.kind == "word":
            return None if value in self.words else f"is one of {', '.join(self.words)}"
        if isinstance(value, int | float) and not isinstance(value, bool) and self.least <= value < self.below:
            return None
        bounds = f"of at least {self.least:g}" + (f" and below {self.below:g}" if self.below < float("inf") else "")
        return f"is a number {bounds}"


@dataclass(frozen=True, slots=True)
class Hook:
    """One procedure: its name, what it does, when it runs, and what it is told.

    data: its `begin` reads a few batches. keeps: where the technique leaves the host as it is before `begin`, it does so after it.
    """

    name: str
    about: str
    moments: tuple[Moment, ...]
    settings: tuple[Told, ...]
    data: bool = False
    keeps: bool = True

    def told(self, name: str) -> Told | None:
        """The setting of a name."""
        return next((each for each in self.settings if each.name == name), None)


def _leaf(name: str, about: str) -> Told:
    return Told(name, "leaf", about)


def _number(name: str, about: str, default: Value, least: float = 0.0, below: float = float("inf")) -> Told:
    return Told(name, "number", about, default, least, below)


_PAIR = (_leaf("down", "the first factor [r, d_in]"), _leaf("up", "the second factor [d_out, r]"))

_SCHEDULE = (
    _number("warmup", "steps before the first is taken; below 1 a share of all steps", 0),
    _number("final", "steps after the last is taken; below 1 a share of all steps", 0),
    _number("interval", "steps from one allocation to the next", 1, least=1),
    _number("beta1", "how much of the average importance is kept in a step", 0.85, below=1),
    _number("beta2", "how much of its average uncertainty is kept in a step", 0.85, below=1),
)

PROCEDURES: Mapping[str, Hook] = {
    hook.name: hook
    for hook in (
        Hook(
            "allocate_ranks",
            "sets the components of least importance over all sites to zero, fewer and fewer being left, down to a target",
            ("penalty", "step"),
            (
                _leaf("values", "one number per component, which is set to zero [r]"),
                _leaf("rows", "one row per component [r, n]"),
                _leaf("columns", "one column per component [m, r]"),
                _number("target", "components that are left at the end, on average over the sites", 8),
                *_SCHEDULE,
                _number("orthogonal", "weight of the distance of rows and columns from orthonormal ones in the loss", 0.5),
            ),
        ),
        Hook(
            "allocate_clusters",
            "lets the clusters of least importance over all sites rest as they are, more and more of them, down to a target",
            ("step",),
            (
                _leaf("directions", "directions of each cluster [k, r, n]"),
                _leaf("rows", "the trained rows [d_out, r]"),
                _leaf("clusters", "the cluster of each row [d_out]"),
                _number("target", "clusters that learn to the end, on average over the sites", 5),
                *_SCHEDULE,
            ),
        ),
        Hook(
            "input_directions",
            "begins a factor at the first principal directions of what enters its site, over the batches",
            ("begin",),
            (_leaf("down", "the factor [r, d_in]"),),
            data=True,
        ),
        Hook(
            "covariance_directions",
            "begins two factors, and frozen copies of them, at singular vectors of the weight seen through the covariance of its input",
            ("begin",),
            (
                *_PAIR,
                _leaf("down_copy", "the frozen copy of the first factor"),
                _leaf("up_copy", "the frozen copy of the second factor"),
                Told("take", "word", "which ones: last keeps what the batches show, first adapts it", "last", words=("first", "last")),
                _number("damp", "share of its mean diagonal that is added to the covariance", 0.01, below=1),
            ),
            data=True,
        ),
        Hook(
            "quantised_residual",
            "puts the weight on a grid of few bits, and begins two factors at what is lost by it, in turns",
            ("begin",),
            (
                *_PAIR,
                _leaf("weight", "the weight on the grid [d_out, d_in], frozen"),
                _number("bits", "2 to 8; the levels are quantiles of the normal distribution", 4, least=2, below=9),
                _number("block", "numbers that share one scale", 64, least=1),
                _number("turns", "of quantising and decomposing", 5, least=1),
            ),
            keeps=False,
        ),
        Hook(
            "joint_decomposition",
            "decomposes the weights of all layers of a slot over one basis: W = U diag(l) V^T, V shared, columns of U of length 1",
            ("begin",),
            (
                _leaf("left", "U [d_out, d_in] of each site"),
                _leaf("lengths", "l [d_in] of each site"),
                _leaf("right", "V [d_in, d_in], shared by the slot"),
                _leaf("positions", "positions in [d_in, d_in], drawn beside the diagonal, shared by the slot"),
                _number("ridge", "added to every layer's share before it is inverted", 0.001),
            ),
        ),
        Hook(
            "cluster_rows",
            "clusters the rows of a weight by its first singular vectors, each cluster with directions of its own",
            ("begin",),
            (
                _leaf("right", "the first right singular vectors of the weight with its bias [n, d_in]"),
                _leaf("bias", "what turns the bias into the coordinates of these vectors [n, d_out]"),
                _leaf("clusters", "the cluster of each row [d_out]"),
                _leaf("directions", "directions of each cluster in the space of the vectors [k, r, n]"),
                _number("turns", "of Lloyd's algorithm at most", 10, least=1),
            ),
        ),
    )
}  # fmt: skip
"""Every procedure, by name."""


def arguments(procedure: Procedure, technique: Technique) -> dict[str, Value]:
    """What a procedure is told, with defaults, and with the technique's settings for their names.

    Raises PeftrefError `bad-value`, `missing-field`, `unknown-field`, each once.

    >>> from peftref.design.load import load
    >>> found = load("adalora", target=4)
    >>> arguments(found.procedures[0], found)["target"]
    4
    """
    hook, given = PROCEDURES[procedure.name], procedure.settings
    problems = []
    for name in given:
        if hook.told(name) is None:
            known = [each.name for each in hook.settings]
            hint = nearest(name, known) or f"it takes {', '.join(known)}"
            problems.append(Problem("unknown-field", f"the procedure {hook.name} takes no {name}", hint=hint))
    found: dict[str, Value] = {}
    for told in hook.settings:
        value = given.get(told.name, told.default)
        if value is None:
            text = f"the procedure {hook.name} needs {told.name}: {told.about}"
            problems.append(Problem("missing-field", text))
            continue
        if told.kind != "leaf" and isinstance(value, str):
            value = technique.settings.get(value, value)
        if (wrong := told.wrong(value)) is not None:
            text = f"{told.name} of the procedure {hook.name} {wrong}, not {value!r}"
            problems.append(Problem("bad-value", text))
        found[told.name] = value
    if problems:
        raise PeftrefError(problems)
    return found


def leaves(procedure: Procedure) -> dict[str, str]:
    """The leaves that a procedure speaks of: the name of each in the technique, by its name in the procedure."""
    hook = PROCEDURES[procedure.name]
    return {
        told.name: str(procedure.settings[told.name])
        for told in hook.settings
        if told.kind == "leaf" and told.name in procedure.settings
    }


def served(procedure: Procedure, technique: Technique) -> Iterator[tuple[int, Insert]]:
    """The insertions that a procedure is for, with their numbers: those that have all the leaves that it speaks of."""
    wanted = set(leaves(procedure).values())
    for number, insert in enumerate(technique.insert):
        if wanted and wanted <= set(insert.leaves):
            yield number, insert


def settings_read(procedure: Procedure, technique: Technique) -> set[str]:
    """The settings of the technique that a procedure is told by their names."""
    hook = PROCEDURES[procedure.name]
    named = {name: value for name, value in procedure.settings.items() if isinstance(value, str)}
    return {
        value
        for name, value in named.items()
        if (told := hook.told(name)) is not None and told.kind != "leaf" and value in technique.settings
    }
