"""A technique as its typology reads it: each form of each effect of each insertion, and its merge rules."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from peftref.analyse.form import Form, forms
from peftref.analyse.merge import Blocked, Merge, merge_rules
from peftref.analyse.structure import Structure, structure
from peftref.design.insertion import Insertion, insertions
from peftref.design.technique import Technique
from peftref.language.check import Effect


@dataclass(frozen=True, slots=True)
class Part:
    """One form of one effect of one insertion."""

    insertion: Insertion
    effect: Effect
    form: Form


class Reading:
    """A technique, read once for all properties."""

    def __init__(self, technique: Technique) -> None:
        self.technique = technique
        self.insertions = insertions(technique)
        self.parts = tuple(
            Part(insertion, effect, form)
            for insertion in self.insertions
            for effect in insertion.told.values()
            for form in forms(effect, frozenset(insertion.leaves))
        )

    @property
    def meeting(self) -> tuple[Part, ...]:
        """The parts that meet a quantity of the host, not what is only carried on."""
        return tuple(part for part in self.parts if part.form.quantity not in part.effect.carried)

    @cached_property
    def changes(self) -> dict[int, Structure | None]:
        """The structure of the change of the weight by each effect, by its id; none where it is no change of a weight."""
        effects = [effect for insertion in self.insertions for effect in insertion.told.values()]
        return {
            id(effect): structure(rule, self.technique.settings) if isinstance(rule, Merge) else None
            for effect, rule in zip(effects, self.rules, strict=True)
        }

    @cached_property
    def rules(self) -> tuple[Merge | Blocked, ...]:
        """The merge rules of all its parts."""
        return merge_rules(self.technique)
