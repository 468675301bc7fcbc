"""The settings of a technique and the fields of a config of peft, one from the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from peftref.design.peer import Peer
from peftref.design.technique import Technique
from peftref.problem import Problem, fail

REST = "1 - "
"""What stands in front of a field that is what a share leaves of one."""


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields by their path, as fields within each other.

    >>> nested({"r": 8, "inner.n": 2, "inner.m": 3})
    {'r': 8, 'inner': {'n': 2, 'm': 3}}
    """
    found: dict[str, Any] = {}
    for path, value in fields.items():
        *outer, name = path.split(".")
        place = found
        for each in outer:
            place = place.setdefault(each, {})
        place[name] = list(value) if isinstance(value, tuple) else value
    return found


def flat(fields: Mapping[str, Any], peer: Peer) -> dict[str, Any]:
    """The fields with those within others by their path, where a peer speaks of such.

    >>> flat({"r": 8, "inner": {"n": 2}}, Peer(type="X", settings={"n": "inner.n"}))
    {'r': 8, 'inner.n': 2}
    """
    outer = {name.split(".")[0] for name in _names(peer) if "." in name}
    found: dict[str, Any] = {}
    for name, value in fields.items():
        inner = name in outer and isinstance(value, Mapping)
        found |= {f"{name}.{key}": each for key, each in value.items()} if inner else {name: value}
    return found


def written(technique: Technique, peer: Peer, lists: Mapping[str, list[int]]) -> dict[str, Any]:
    """The fields that say the settings of a technique, by their paths. lists: of the leaves that are listed, by the field."""
    found: dict[str, Any] = {theirs: technique.settings[ours] for ours, theirs in peer.settings.items()}
    for ours, text in peer.shares.items():
        share = math.ceil(1e12 / int(technique.settings[ours])) / 1e12  # a little more, for what is rounded down
        found[text.removeprefix(REST)] = 1 - share if text.startswith(REST) else share
    found |= {theirs: sum(int(technique.settings[each]) for each in ours) for theirs, ours in peer.sums.items()}
    found |= {theirs: [0] * int(technique.settings[ours]) for theirs, ours in peer.lists.items()}
    return {**found, **lists, **peer.fixed}


def settings(technique: Technique, peer: Peer, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the fields of a config say. Raises PeftrefError `peer-field` where a field is no sum of settings."""
    found: dict[str, Any] = {ours: fields[theirs] for ours, theirs in peer.settings.items()}
    found |= summed(fields, found, peer) | dict(peer.ours)
    found |= {ours: _number(text, fields) for ours, text in peer.shares.items()}
    for leaf, theirs in peer.listed.items():
        listed = fields[theirs]
        (own,) = (insert.leaves[leaf] for insert in technique.insert if leaf in insert.leaves)
        found |= {word: len(listed) for word in own.words() if word in technique.settings}
        found |= {setting: listed[0] for _, setting in own.init.settings()}
    return found


def summed(fields: Mapping[str, Any], settings: Mapping[str, Any], peer: Peer) -> dict[str, Any]:
    """The settings that are known by their sum with others. Raises PeftrefError `peer-field` where the fields are no such sum.

    >>> summed({"all": 20}, {"kept": 1}, Peer(type="CARTRIDGE", sums={"all": ["kept", "tokens"]}))
    {'tokens': 19}
    """
    found: dict[str, Any] = {}
    for theirs, ours in peer.sums.items():
        open_ones = [name for name in ours if name not in settings]
        numbers = [fields.get(theirs), *(settings[name] for name in ours if name in settings)]
        if len(open_ones) != 1 or not all(type(number) is int for number in numbers) or numbers[0] <= sum(numbers[1:]):
            raise fail("peer-field", f"{theirs} is {fields.get(theirs)!r}, which is no sum of {' and '.join(ours)}")
        found[open_ones[0]] = numbers[0] - sum(numbers[1:])
    return found


def inexpressible(
    peer: Peer, fields: Mapping[str, Any], defaults: Mapping[str, Any], about: Iterable[str]
) -> Iterator[Problem]:
    """What of a config a peer does not express. fields: by their path; about: fields that say nothing of the equation."""
    if peer.refused or not (peer.keys or peer.folds):
        yield Problem("no-peer", peer.refused or f"peft keeps the tensors of its type {peer.type} in another form")
    for field in sorted({each.split(".")[0] for each in fields} - defaults.keys()):
        yield Problem("peer-field", f"{field} is no field of this version of peft")
    for field, value in peer.fixed.items():
        there = fields.get(field, defaults.get(field))
        if not _same(there, value) and not ((field in fields or "." not in field) and _harmless(field, there, peer)):
            wanted = list(value) if isinstance(value, tuple) else value
            yield Problem("peer-field", f"{field} is {there!r}, and only {wanted!r} can be expressed")
    for field in (each for each in peer.settings.values() if "." in each and each not in fields):
        yield Problem("peer-field", f"{field} is not given, which says that it is another technique")
    for text in peer.shares.values():
        number = _number(text, fields)
        if number is None:
            field = text.removeprefix(REST)
            told = f"{field} is {fields.get(field)!r}, and only one in a whole number of weights can be expressed"
            yield Problem("peer-field", told)
    for theirs in peer.listed.values():
        if not fields.get(theirs):
            yield Problem("peer-field", f"{theirs} is {fields.get(theirs)!r}, and a list of numbers is needed")
    said = {*_said(peer), *about}
    for field, value in fields.items():
        known = field in defaults or "." in field
        if field not in said and known and value and value != defaults.get(field) and not _harmless(field, value, peer):
            yield Problem("peer-field", f"{field} is {value!r}, which no technique in the catalogs expresses")


def _names(peer: Peer) -> set[str]:
    """Every field, by its path, of which a peer speaks."""
    return {*_said(peer), *peer.harmless}


def _said(peer: Peer) -> set[str]:
    """The fields that are settings, leaves or sites, or have one value."""
    shares = {text.removeprefix(REST) for text in peer.shares.values()}
    one = {*peer.settings.values(), *shares, *peer.listed.values(), *peer.fixed, *peer.targets}
    return one | {*peer.sums, *peer.lists, *peer.sizes, *peer.several}


def _number(text: str, fields: Mapping[str, Any]) -> int | None:
    """One in how many a share is, or None where it is none of those."""
    value = fields.get(text.removeprefix(REST))
    if not isinstance(value, int | float) or not 0 < (share := 1 - value if text.startswith(REST) else value) <= 1:
        return None
    number = round(1 / share)
    return number if abs(1 / number - share) <= 1e-9 else None


def _same(there: object, value: object) -> bool:
    return there == (list(value) if isinstance(value, tuple) else value)


def _harmless(field: str, value: object, peer: Peer) -> bool:
    return field in peer.harmless and (not peer.harmless[field] or value in peer.harmless[field])
