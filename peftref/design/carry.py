"""What a technique carries from layer to layer beside the stream: it must be set before it is read, and reach the host."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from peftref.core.problem import PeftrefError, Place, Problem
from peftref.design.technique import Technique
from peftref.design.yaml_document import Document
from peftref.host.architecture import ARCHITECTURE
from peftref.language.check import Effect
from peftref.language.expr import Name, names, walk

MANY = 1000
"""Layers of a stack that is deep enough for every choice of layers."""

_RANK = {component.name: rank for rank, component in enumerate(ARCHITECTURE.components)}

Step = tuple[int | None, int, Effect]
"""An effect on its way: the layer it is in, None for what a stack has once; the insertion that it is of; what it does."""


def carry_problems(
    technique: Technique, effects: Sequence[tuple[int, Effect]], document: Document
) -> Iterator[Problem]:
    """Every carried quantity that nothing sets, that reaches nothing, or that is read too early, with its place.

    effects: with the number of their insertion, in the order of the file.
    """
    useful = _reaching([effect for _, effect in effects])
    early: dict[str, int] = {}
    with contextlib.suppress(PeftrefError):  # a choice of layers that is wrong is told where it is checked
        early = read_early(_steps(technique, effects))
    for name in technique.carries:
        place = document.key("carries", name)
        setting = [number for number, effect in effects if name in effect.sets]
        if not setting:
            hint = f"write {name}' = ... at layer, or remove it"
            yield Problem("carry-unset", f"{name} is carried, and no equation sets it", place, hint=hint)
        elif name not in useful:
            text = f"{name} is carried, and nothing that is made of it reaches the host"
            hint = f"read {name} where h' is set, at the last layer or at final.norm"
            yield Problem("carry-unread", text, place, hint=hint)
        elif name in early:
            locate = document.locate("insert", early[name], "equation")
            spans = (
                node.span
                for number, effect in effects
                if number == early[name]
                for value in effect.values.values()
                for node in walk(value)
                if node == Name(name)
            )
            yield early_problem(name, "", locate(*next(spans)))


def early_problem(name: str, where: str, place: Place | None = None) -> Problem:
    """The problem of a carried quantity that is read before anything sets it."""
    text = f"{name} is read{where} before any equation of the stack sets it, and is zero there"
    hint = f"set {name}' in an earlier layer, or at the same slot in an insertion above"
    return Problem("carry-early", text, place, hint=hint)


def read_early(steps: Iterable[Step]) -> dict[str, int]:
    """What is read where nothing can have set it, with the insertion that does so; an equation that sets it may read it first.

    steps: of one stack, in the order in which it runs, those of one slot in the order of the file. Which of several slots of
    one component comes first is the host's own affair, so they count as one place.
    """
    known: set[str] = set()
    found: dict[str, int] = {}
    ordered = list(steps)
    for at, (layer, insertion, effect) in enumerate(ordered):
        here = (layer, _RANK[ARCHITECTURE.slot(effect.slot).component])
        for name in effect.carries - effect.sets:
            later = (
                each
                for other, _, each in ordered[at + 1 :]
                if (other, _RANK[ARCHITECTURE.slot(each.slot).component]) == here and each.slot != effect.slot
            )
            if name not in known and not any(name in each.sets for each in later):
                found.setdefault(name, insertion)
        known |= effect.sets
    return found


def _steps(technique: Technique, effects: Sequence[tuple[int, Effect]]) -> list[Step]:
    """The effects in the order in which a deep stack would run them."""
    found: list[tuple[float, int, int, int, Step]] = []
    order = ARCHITECTURE.names()
    for number, effect in effects:
        rank = _RANK[ARCHITECTURE.slot(effect.slot).component]
        once = ARCHITECTURE.slot(effect.slot).component in ("embedding", "final", "head")
        layers = technique.insert[number].layers.choose(MANY, technique.settings)
        for layer in (None,) if once else (*layers[:2], *layers[-2:]):
            when = layer if layer is not None else -1.0 if rank == 0 else float("inf")
            found.append((when, rank, order.index(effect.slot), number, (layer, number, effect)))
    return [step for *_, step in sorted(found, key=lambda each: each[:4])]


def _reaching(effects: Sequence[Effect]) -> frozenset[str]:
    """The carried quantities of which something comes to the host's own quantities."""
    found: frozenset[str] = frozenset()
    while True:
        read = frozenset().union(
            *(
                names(value) & effect.carried
                for effect in effects
                for name, value in effect.values.items()
                if name not in effect.carried or name in found
            )
        )
        if read <= found:
            return found
        found |= read
