"""A technique's insertions, ready for every later stage: leaves with symbolic shapes, and the equation's effect at each slot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from peftref.core.problem import PeftrefError, Problem
from peftref.design.check import carried_of, leaves_of
from peftref.design.layers import Layers
from peftref.design.names import known_slots
from peftref.design.technique import Technique
from peftref.language.check import Effect, check
from peftref.language.expr import Equation
from peftref.language.named import named
from peftref.language.parse import parse, plain_locate
from peftref.language.scope import Leaf, Scope
from peftref.language.siblings import read_at, told_once


@dataclass(frozen=True, eq=False)
class Insertion:
    """One insertion: where it goes, its leaves, its equation, and what that does at each slot of the reference architecture.

    Two are the same only if they are one object: `insertions` makes them once.
    """

    at: tuple[str, ...]
    layers: Layers
    stacks: tuple[str, ...] | None
    leaves: Mapping[str, Leaf]
    equation: Equation
    effects: Mapping[str, Effect]
    optional: bool = False
    counted: bool = False
    stays: bool = False

    @property
    def told(self) -> Mapping[str, Effect]:
        """The effects without those at cross attention that are the same at self attention."""
        return {slot: self.effects[slot] for slot in told_once(tuple(self.effects))}

    @property
    def scope(self) -> Scope:
        """What its names stand for, at the first of its slots."""
        return next(iter(self.effects.values())).scope


@lru_cache(maxsize=512)
def insertions(technique: Technique) -> tuple[Insertion, ...]:
    """The insertions of a technique; raises PeftrefError with everything that is wrong in shapes and equations.

    >>> mine = Technique(name="mine", title="Mine", insert=[{"at": "attention.key", "equation": "h' = 2 * h"}])
    >>> insertions(mine)[0].effects["attention.key"].slot
    'attention.key'
    """
    found: list[Insertion] = []
    problems: list[Problem] = []
    carried = carried_of(technique)
    for insert in technique.insert:
        locate = plain_locate(insert.equation, technique.name)
        leaves = leaves_of(technique, insert)
        equation = named(parse(insert.equation, locate), technique.settings)
        effects: dict[str, Effect] = {}
        told = told_once(known_slots(insert))
        for slot in known_slots(insert):
            effect, wrong = check(read_at(equation, slot), slot, leaves, technique.settings, locate, carried)
            problems += wrong if slot in told else ()
            if effect is not None:
                effects[slot] = effect
        said = [_said(value, technique) for value in (insert.counted, insert.stays)]
        found.append(
            Insertion(insert.at, insert.layers, insert.stacks, leaves, equation, effects, insert.optional, *said)
        )
    if problems:
        raise PeftrefError(problems)
    return tuple(found)


def _said(value: bool | str, technique: Technique) -> bool:
    """What is true or false, or the setting that says it."""
    return bool(technique.settings.get(value)) if isinstance(value, str) else value
