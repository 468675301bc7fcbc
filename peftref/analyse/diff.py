"""In what two techniques differ: properties, slots, sub-expressions, leaves and settings; and which techniques are nearest to one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from peftref.analyse.form import replaced
from peftref.analyse.row import PEFT_REF, Row
from peftref.analyse.typology import typology
from peftref.design.insertion import insertions
from peftref.design.load import load
from peftref.design.technique import Technique
from peftref.language.expr import Call, Expr, Name, rebuild, walk
from peftref.language.show import show

QUANTITIES = ("h", "x", "W", "b", "g", "q", "k", "v", "o", "E", "res", "out")
"""Names that mean the same in every equation; all others may be called otherwise."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which two techniques differ: what it is, and how it is in each; an empty text where one lacks it."""

    what: str
    one: str
    other: str


@dataclass(frozen=True, slots=True)
class Diff:
    """All differences, by kind; equal techniques have none."""

    one: str
    other: str
    properties: tuple[Difference, ...]
    slots: tuple[Difference, ...]
    equations: tuple[Difference, ...]
    leaves: tuple[Difference, ...]
    settings: tuple[Difference, ...]

    def __bool__(self) -> bool:
        return any((self.properties, self.slots, self.equations, self.leaves, self.settings))


def diff(one: Technique | str, other: Technique | str) -> Diff:
    """The differences of two techniques.

    Equations are compared by what they do to the output, and up to the names of leaves. Raises PeftrefError where one is no technique.

    >>> found = diff("houlsby", "pfeiffer")
    >>> [(each.what, each.one, each.other) for each in found.equations]
    [('ffn', 'gelu(D @ h + c)', 'relu(D @ out + c)')]
    """
    first, second = (load(each) if isinstance(each, str) else each for each in (one, other))
    left, right = typology([first, second])
    return Diff(
        first.name,
        second.name,
        _differences(_values(left), _values(right)),
        _differences(slots_said(first), slots_said(second)),
        tuple(_equations(first, second)),
        _differences(leaves_said(first), leaves_said(second)),
        _differences({k: str(v) for k, v in first.settings.items()}, {k: str(v) for k, v in second.settings.items()}),
    )


@dataclass(frozen=True, slots=True)
class Relative:
    """A technique near to another: how many of the nine properties differ, and which."""

    name: str
    distance: int
    differing: tuple[str, ...]


def relatives(technique: Technique, others: Sequence[Row], n: int = 3) -> tuple[Relative, ...]:
    """The nearest techniques by the nine properties of the typology, ties in the order of their names.

    >>> relatives(load("pfeiffer"), typology(["houlsby", "lora"]), 1)[0].name
    'houlsby'
    """
    return near(typology([technique])[0], others, n)


def near(own: Row, others: Sequence[Row], n: int = 3) -> tuple[Relative, ...]:
    """The rows that are nearest to a row, as `relatives` has them."""
    found = []
    for row in others:
        if row.name == own.name:
            continue
        differing = tuple(name for name in PEFT_REF if row[name] != own[name])
        found.append(Relative(row.name, len(differing), differing))
    return tuple(sorted(found, key=lambda each: (each.distance, each.name))[:n])


def _values(row: Row) -> dict[str, str]:
    return {name: cell.value for name, cell in row.cells.items()}


def slots_said(technique: Technique) -> dict[str, str]:
    """The slots of a technique, each with its layers in words."""
    found = {}
    for insert in technique.insert:
        for slot in insert.at:
            found[slot] = f"layers: {insert.layers}" if insert.layers.rule != "all" else "every layer"
    return found


def leaves_said(technique: Technique) -> dict[str, str]:
    """The leaves of a technique, each in words."""
    found = {}
    for insert in technique.insert:
        for name, leaf in insert.leaves.items():
            scope = "" if leaf.scope == "site" else f", one for each {leaf.scope}"
            frozen = ", frozen" if leaf.frozen else ""
            found[name] = f"[{', '.join(leaf.shape)}] {leaf.init}{scope}{frozen}"
    return found


def _differences(one: dict[str, str], other: dict[str, str]) -> tuple[Difference, ...]:
    return tuple(
        Difference(name, one.get(name, ""), other.get(name, ""))
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    )


def _equations(one: Technique, other: Technique) -> Iterable[Difference]:
    """The smallest sub-expressions that differ, at the slots that both have, and whole equations at the others'."""
    left, right = effects(one), effects(other)
    common = [key for key in left if key in right]
    for key in common:
        first, second = left[key], right[key]
        for mine, theirs in _smallest(first, second, _order(first), _order(second)):
            yield Difference(key.removesuffix(".h'"), show(mine), show(theirs))
    if not common:
        for (key, mine), (_, theirs) in zip(left.items(), right.items(), strict=False):
            yield Difference(key.removesuffix(".h'"), show(mine), show(theirs))
            return


def effects(technique: Technique) -> dict[str, Expr]:
    """What a technique does to each quantity, by slot and primed quantity; at linear slots, to the output."""
    return {
        f"{slot}.{name}'": value
        for insertion in insertions(technique)
        for slot, effect in insertion.told.items()
        for name, value in replaced(effect).items()
    }


def _order(expr: Expr) -> dict[str, str]:
    """The names of an expression by the order of their first use, so that `U @ D` and `B @ A` are one expression."""
    found: dict[str, str] = {}
    for node in walk(expr):
        if isinstance(node, Name) and node.name not in QUANTITIES:
            found.setdefault(node.name, f"leaf{len(found)}")
    return found


def _renamed(expr: Expr, names: dict[str, str]) -> Expr:
    if isinstance(expr, Name):
        return Name(names.get(expr.name, expr.name))
    return rebuild(expr, lambda child: _renamed(child, names))


def _smallest(one: Expr, other: Expr, left: dict[str, str], right: dict[str, str]) -> list[tuple[Expr, Expr]]:
    if _renamed(one, left) == _renamed(other, right):
        return []
    same = (
        isinstance(one, Call)
        and isinstance(other, Call)
        and one.op == other.op
        and len(one.args) == len(other.args)
        and one.options == other.options
    )
    if same and isinstance(one, Call) and isinstance(other, Call):
        found = [
            pair
            for mine, theirs in zip(one.args, other.args, strict=True)
            for pair in _smallest(mine, theirs, left, right)
        ]
        if found:
            return found
    return [(one, other)]
