"""Techniques in sizes that fit tiny hosts."""

from __future__ import annotations

from peftref.design.technique import Technique

SIZES = {
    "vectors": 8,
    "length": 8,
    "k": 3,
    "block": 4,
    "bases": 5,
    "size": 30,
    "experts": 2,
    "first": 2,
    "last": 1,
    "d": 4,
    "width": 6,
    "heads": 2,
    "r": 4,
    "tokens": 3,
    "bottleneck": 8,
    "n": 2,
    "kept": 1,
    "group": 8,
    "dropout": 0.0,
}


def small(technique: Technique) -> Technique:
    """The technique with the settings that are sizes made small."""
    return technique.with_settings(**{name: value for name, value in SIZES.items() if name in technique.settings})
