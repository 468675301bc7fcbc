"""A document with faulty fields taken out, so that what is sound in it can be checked as well and all problems told at once."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from peftref.core.problem import Problem
from peftref.design.yaml_document import Path

M = TypeVar("M", bound=BaseModel)

NEUTRAL = {"at": "ffn", "equation": "h' = 2 * h"}
"""An insertion without a problem, in the place of one that cannot be read."""
CERTAIN = ("syntax", "unknown-slot", "unknown-op", "equation-folded")
NAMING = ("unknown-name", "unknown-size")
"""Problems that no faulty field elsewhere can be the cause of; those of a name, unless it is a name that was taken out."""
_TRIES = 12


def repaired(model: type[M], data: object) -> tuple[M, frozenset[str]] | None:
    """The model of a document's data without its faulty fields, and the names of what was taken out; None where too little is left.

    >>> from peftref.design.technique import Technique
    >>> found = repaired(Technique, {"name": "m", "title": "M", "extra": 1, "insert": [NEUTRAL]})
    >>> found[0].name, sorted(found[1])
    ('m', ['extra'])
    """
    data = copy.deepcopy(data)
    gone: set[str] = set()
    for _ in range(_TRIES):
        try:
            return model.model_validate(data), frozenset(gone)
        except ValidationError as error:
            if not isinstance(data, dict):
                return None
            for each in error.errors(include_url=False):
                within = (each.get("ctx") or {}).get("at", ())
                path = tuple(step for step in (*each["loc"], *within) if step != "[key]")
                gone.add(_take_out(data, path))
    return None


def certain(problems: list[Problem], gone: frozenset[str]) -> Iterator[Problem]:
    """The problems that stand whatever is done about the fields that were taken out."""
    codes = CERTAIN if gone & {"settings", "leaves"} else (*CERTAIN, *NAMING)
    for problem in problems:
        words = set(problem.text.replace(",", " ").split())
        if problem.code in codes and not words & gone:
            yield problem


def _take_out(data: dict[str, Any], path: Path) -> str:
    """Removes a field, or puts a sound value there, and gives its name.

    A part of a list goes with the list; an insertion that lacks or loses what it needs becomes a neutral one.
    """
    steps = list(path)
    while len(steps) > 2 and isinstance(steps[-1], int):
        steps.pop()
    here: Any = data
    for step in steps[:-1]:
        if not _has(here, step):  # it went with something around it
            return ""
        here = here[step]
    last = steps[-1] if steps else ""
    if path[:1] == ("insert",) and (len(steps) == 2 or steps[2:] in (["at"], ["equation"])):
        if _has(data.get("insert"), steps[1]):
            data["insert"][steps[1]] = dict(NEUTRAL)
        return "insert"
    if steps in (["name"], ["title"]):
        here[last] = "mine"
    elif last == "init" and "leaves" in steps[:-2]:
        here[last] = "zeros"
    elif _has(here, last):
        del here[last]
    else:
        return _take_out(data, tuple(steps[:-1])) if len(steps) > 1 else ""
    return str(last)


def _has(value: Any, step: str | int) -> bool:
    return (isinstance(value, dict) and step in value) or (
        isinstance(value, list) and isinstance(step, int) and step < len(value)
    )
