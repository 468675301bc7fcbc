"""The record of a saved module: what it was trained on, how, and by which versions. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from peftref.core.problem import PeftrefError, Problem, fail

FORMAT = 3
"""1 had no seed, no leaves made from it and nothing about training; in 1 and 2 `attention` is self attention alone. Both are read as well."""
TECHNIQUE, TENSORS, RECORD = "technique.yaml", "module.safetensors", "module.json"
FACTS, LETTERS = 64, 1000
"""How many facts about training are kept, and how long a text in them may be."""
Fact = bool | int | float | str


class Fingerprint(BaseModel):
    """What a module was trained on.

    architecture: digest of stacks, slots and sizes, where they stand left out. weights: digest of up to 64 numbers of every
    tensor, evenly spaced and rounded to bfloat16, so that a host loaded in another precision is the same host; empty where the
    host had no weights yet.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    model_type: str
    parameters: int
    architecture: str
    weights: str


class Record(BaseModel):
    """What `module.json` holds.

    digest: sha256 of the tensors' file; technique_digest: of the technique's. made: digests of the frozen random leaves that are
    not in the file and are made again from the seed, by name. training: what was told of how the module was trained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    technique: str
    settings: dict[str, Fact]
    host: Fingerprint
    digest: str
    technique_digest: str
    versions: dict[str, str]
    seed: int = 0
    made: dict[str, str] = {}
    training: dict[str, Fact] = {}


def read_record(path: Path) -> Record:
    """The record in a file; raises PeftrefError `saved-damaged`, and `saved-version` for a format of another time."""
    try:
        found = json.loads(path.read_bytes())
        if isinstance(found, dict) and found.get("format") not in range(1, FORMAT + 1):
            known = found.get("format")
            raise fail(
                "saved-version",
                f"{path} has format {known!r}, and this version reads up to {FORMAT}",
                hint="upgrade peftref",
            )
        record = Record.model_validate(found)
        facts(record.training)
        return record
    except PeftrefError as error:
        if error.problems[0].code == "saved-version":
            raise
        raise fail("saved-damaged", f"{path} cannot be read: {error.problems[0].text}") from None
    except (ValueError, ValidationError) as error:
        reason = "its fields are not those of a saved module" if isinstance(error, ValidationError) else "it is no JSON"
        raise fail("saved-damaged", f"{path} cannot be read: {reason}") from None


def facts(given: Mapping[str, object]) -> dict[str, Fact]:
    """What is told about training, checked: names with numbers, texts, yes or no. Raises PeftrefError `training-fact` with all faults.

    >>> facts({"steps": 100, "lr": 1e-4, "data": "sst2"})
    {'steps': 100, 'lr': 0.0001, 'data': 'sst2'}
    """
    problems = []
    for name, value in given.items():
        if not isinstance(name, str) or not name.isidentifier() or len(name) > LETTERS:
            problems.append(Problem("training-fact", f"{name!r} is no name of a fact", hint="letters, digits and _"))
        elif not isinstance(value, bool | int | float | str):
            text = f"{name} is a {type(value).__name__}"
            problems.append(Problem("training-fact", text, hint="give a number, a text, True or False"))
        elif isinstance(value, float) and not math.isfinite(value):
            problems.append(Problem("training-fact", f"{name} is {value}", hint="give a finite number"))
        elif isinstance(value, str) and len(value) > LETTERS:
            text = f"{name} has {len(value)} letters"
            problems.append(Problem("training-fact", text, hint=f"{LETTERS} at most"))
    if len(given) > FACTS:
        problems.append(Problem("training-fact", f"{len(given)} facts are told", hint=f"{FACTS} at most"))
    if problems:
        raise PeftrefError(problems)
    return dict(given)  # type: ignore[arg-type]  # checked above
