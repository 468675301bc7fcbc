"""Placements that cost the same, and what measures their expressions."""

from __future__ import annotations

from collections.abc import Iterable

from peftref.design.placement import Placement, numbers
from peftref.design.technique import Technique
from peftref.language.rewrite.cost import Load, Meter


def groups(technique: Technique, placed: Iterable[Placement]) -> tuple[list[Placement], ...]:
    """Placements that cost the same together: one insertion at one slot of one size, in one stack."""
    found: dict[tuple[object, ...], list[Placement]] = {}
    for placement in placed:
        site = placement.site
        sizes = tuple(sorted(numbers(site, technique.settings).items()))
        found.setdefault((id(placement.insertion), site.slot, site.stack, sizes, site.lacks), []).append(placement)
    return tuple(found.values())


def meter(technique: Technique, placement: Placement, load: Load) -> Meter:
    """What measures the expressions of a placement, when its trained leaves and all that it reads of the input need a gradient."""
    given = numbers(placement.site, technique.settings)
    return Meter.training(placement.effect.scope, placement.insertion.leaves.values(), given, load)
