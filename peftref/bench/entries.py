"""The techniques of a study, as they were asked for: named, sized to the budget, and counted on the host."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from peftref.analyse.count import count
from peftref.bench.budget import fit_budget, parse_budget
from peftref.bench.plan import Entry, digest
from peftref.design.given import given
from peftref.design.technique import Technique
from peftref.host.host import Host
from peftref.problem import PeftrefError, Problem

Budget = str | int | float | None


def wanted_techniques(wanted: Sequence[str | Technique]) -> tuple[list[Technique], list[Problem]]:
    """The techniques of names such as `lora` or `lora:r=4,alpha=8`, and every problem with them."""
    found: list[Technique] = []
    problems: list[Problem] = []
    if not wanted:
        problems.append(Problem("nothing-to-compare", "no technique is given", hint="peftref list names them all"))
    for each in wanted:
        try:
            found.append(each if isinstance(each, Technique) else given(each))
        except PeftrefError as error:
            problems += error.problems
    return found, problems


def entries(chosen: Iterable[Technique], host: Host, budget: Budget) -> dict[str, tuple[Entry, Technique]]:
    """What takes part in a study, by label; one that stands there twice gets a number.

    Raises PeftrefError `bad-budget`, and the problems of all techniques that cannot stand on the host.
    """
    target = None if budget is None else parse_budget(budget, host.parameters)
    found: dict[str, tuple[Entry, Technique]] = {}
    problems: list[Problem] = []
    for each in chosen:
        try:
            technique, note = each, None
            if target is not None:
                fit = fit_budget(
                    each, each.budget_setting(), target, _resized(each), lambda one: count(one, host).trained
                )
                technique, note = fit.technique, fit.note
            same = sum(entry.name == technique.name for entry, _ in found.values())
            label = technique.name if not same else f"{technique.name} ({same + 1})"
            found[label] = (_entry(technique, label, host, note), technique)
        except PeftrefError as error:
            problems += error.problems
    if problems:
        raise PeftrefError(problems)
    return found


def _entry(technique: Technique, label: str, host: Host, note: str | None) -> Entry:
    counts = count(technique, host)
    return Entry(
        label=label,
        name=technique.name,
        title=technique.title,
        settings=dict(technique.settings),
        definition=digest(technique.essence()),
        trained=counts.trained,
        stored=counts.stored,
        inference=counts.inference,
        formula=counts.formula,
        share=counts.share,
        budget=note,
    )


def _resized(technique: Technique) -> Callable[[str, int], Technique]:
    return lambda setting, value: technique.with_settings(**{setting: value})
