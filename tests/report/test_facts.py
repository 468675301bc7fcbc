"""The table of the catalog says how its measurements stand together."""

from __future__ import annotations

from typing import Any

from benchmarks.facts_table import facts_table

PLACE = {"versions": {"torch": "2"}, "cpu": "some", "threads": 2}


def record(name: str, **ratios: float | None) -> dict[str, Any]:
    """A technique with ratios of step, saved and frozen at one host."""
    fixed = dict.fromkeys(("trained", "identity", "mergeable", "peft", "output", "gradient", "merged", "exchange"))
    return {"name": name, "lines": 10, **fixed, **{key: {"host": value} for key, value in ratios.items()}}


def test_means_are_geometric_and_the_floor_is_the_frozen_host_beside_peft() -> None:
    found = [
        record("one", step=0.5, saved=0.5, frozen=1.0),
        record("two", step=2.0, saved=1.0, frozen=1.0),
        record("peft cannot", step=None, saved=None, frozen=1.2),
    ]
    note = next(note for note in facts_table(found, PLACE, PLACE).notes if note.startswith("host"))
    assert note == (
        "host, 2 techniques: step / peft 1.00 in the geometric mean, 2.00 at most, and 1.00 would be the frozen host alone; "
        "saved / peft 0.71, 1.00 at most"
    )


def test_nothing_is_said_of_what_was_not_measured() -> None:
    notes = facts_table([record("one", step=None, saved=None, frozen=None)], PLACE, None).notes
    assert not any("geometric" in note for note in notes)
