"""The techniques of a study, as they were asked for: named, sized to the budget, and counted on the host."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from peftref.analyse.count import count
from peftref.core.problem import PeftrefError, Problem
from peftref.design.given import entrant
from peftref.design.opaque import MARK, Opaque
from peftref.design.technique import Technique
from peftref.host.architecture import slots_of
from peftref.host.host import Host
from peftref.study.budget import fit_budget, parse_budget
from peftref.study.plan import Entry, digest

Budget = str | int | float | None


Wanted = Technique | Opaque


def wanted_techniques(wanted: Sequence[str | Wanted]) -> tuple[list[Wanted], list[Problem]]:
    """The techniques of names such as `lora`, `lora:r=4,alpha=8` or `peft:xlora`, and every problem with them."""
    found: list[Wanted] = []
    problems: list[Problem] = []
    if not wanted:
        problems.append(Problem("nothing-to-compare", "no technique is given", hint="peftref list names them all"))
    for each in wanted:
        try:
            found.append(entrant(each) if isinstance(each, str) else each)
        except PeftrefError as error:
            problems += error.problems
    return found, problems


def entries(
    chosen: Iterable[Wanted], host: Host, budget: Budget, trained: Callable[[Opaque], int]
) -> dict[str, tuple[Entry, Wanted]]:
    """What takes part in a study, by label; one that stands there twice gets a number, an opaque one has its mark in front.

    trained: how many parameters an opaque technique trains, of which no formula is known.

    Raises PeftrefError `bad-budget`, and the problems of all techniques that cannot stand on the host.
    """
    target = None if budget is None else parse_budget(budget, host.parameters)
    found: dict[str, tuple[Entry, Wanted]] = {}
    problems: list[Problem] = []
    for each in chosen:
        try:
            if isinstance(each, Opaque):
                label = _label(f"{MARK}{each.name}", found)
                found[label] = (_opaque_entry(each, label, host, trained(each), target), each)
                continue
            technique, note = each, None
            if target is not None:
                fit = fit_budget(
                    each, each.budget_setting(), target, _resized(each), lambda one: count(one, host).trained
                )
                technique, note = fit.technique, fit.note
            label = _label(technique.name, found)
            found[label] = (_entry(technique, label, host, note, target), technique)
        except PeftrefError as error:
            problems += error.problems
    if problems:
        raise PeftrefError(problems)
    return found


def _label(name: str, found: Iterable[str]) -> str:
    same = sum(label.partition(" (")[0] == name for label in found)
    return name if not same else f"{name} ({same + 1})"


def _opaque_entry(technique: Opaque, label: str, host: Host, trained: int, asked: int | None) -> Entry:
    return Entry(
        label=label,
        name=label,
        title=f"{technique.title} (of {technique.library})",
        settings={name: value for name, value in technique.config.items() if isinstance(value, int | float | str)},
        definition=digest(technique.model_dump(mode="json", exclude={"title", "about", "source", "note"})),
        trained=trained,
        stored=trained,
        inference=trained,
        formula="opaque",
        share=trained / host.parameters,
        budget=None if asked is None else "opaque: no budget can size it",
        asked=asked,
    )


def _entry(technique: Technique, label: str, host: Host, note: str | None, asked: int | None) -> Entry:
    counts = count(technique, host)
    return Entry(
        label=label,
        name=technique.name,
        title=technique.title,
        settings=dict(technique.settings),
        definition=digest(technique.essence() | _crossed(technique, host)),
        trained=counts.trained,
        stored=counts.stored,
        inference=counts.inference,
        formula=counts.formula,
        share=counts.share,
        budget=note,
        asked=asked,
    )


def _crossed(technique: Technique, host: Host) -> dict[str, Any]:
    """What tells a technique at cross attention from the one of the same file when `attention` was self attention alone."""
    told = any(len(slots_of(word)) == 2 for insert in technique.insert for word in insert.at)
    there = any(slot.startswith("cross_attention") for slot in host.slots())
    return {"attention": "self and cross"} if told and there else {}


def _resized(technique: Technique) -> Callable[[str, int], Technique]:
    return lambda setting, value: technique.with_settings(**{setting: value})
