"""The settings of a technique and the fields of a config of peft, one from the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from peftref.core.problem import Problem
from peftref.design.peer import Peer
from peftref.design.technique import Technique
from peftref.exchange.terms import read_names, solved, value_of


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
    found: dict[str, Any] = {}
    for ours, text in peer.settings.items():
        found |= solved(text, technique.settings[ours], found)
    found |= {theirs: [0] * int(technique.settings[ours]) for theirs, ours in peer.lists.items()}
    return {**found, **lists, **peer.fixed}


def settings(technique: Technique, peer: Peer, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the fields of a config say."""
    found: dict[str, Any] = {ours: value_of(text, fields) for ours, text in peer.settings.items()}
    found |= dict(peer.ours)
    for leaf, theirs in peer.listed.items():
        listed = fields[theirs]
        (own,) = (insert.leaves[leaf] for insert in technique.insert if leaf in insert.leaves)
        found |= {word: len(listed) for word in own.words() if word in technique.settings}
        found |= {setting: listed[0] for _, setting in own.init.settings()}
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
    yield from unsolved(peer, fields)
    for theirs in peer.listed.values():
        if not fields.get(theirs):
            yield Problem("peer-field", f"{theirs} is {fields.get(theirs)!r}, and a list of numbers is needed")
    said = {*_said(peer), *about}
    for field, value in fields.items():
        known = field in defaults or "." in field
        if field not in said and known and value and value != defaults.get(field) and not _harmless(field, value, peer):
            yield Problem("peer-field", f"{field} is {value!r}, which no technique in the catalogs expresses")


def unsolved(peer: Peer, fields: Mapping[str, Any]) -> Iterator[Problem]:
    """The settings that cannot be told from the fields."""
    for ours, text in peer.settings.items():
        theirs = read_names(text)
        missing = [field for field in theirs if "." in field and field not in fields]
        for field in missing:
            yield Problem("peer-field", f"{field} is not given, which says that it is another technique")
        value = value_of(text, fields)
        if theirs != (text,) and not missing and not (type(value) is int and value > 0):
            told = " and ".join(f"{field} is {fields.get(field)!r}" for field in theirs)
            yield Problem("peer-field", f"{told}, and {text} gives no whole number for {ours}")


def spoken_of(peer: Peer) -> set[str]:
    """The fields that say settings."""
    return {field for text in peer.settings.values() for field in read_names(text)}


def _names(peer: Peer) -> set[str]:
    """Every field, by its path, of which a peer speaks."""
    return {*_said(peer), *peer.harmless}


def _said(peer: Peer) -> set[str]:
    """The fields that are settings, leaves or sites, follow from others, or have one value."""
    return {*spoken_of(peer), *peer.listed.values(), *peer.fixed, *peer.targets, *peer.lists, *peer.follow}


def _same(there: object, value: object) -> bool:
    return there == (list(value) if isinstance(value, tuple) else value)


def _harmless(field: str, value: object, peer: Peer) -> bool:
    return field in peer.harmless and (not peer.harmless[field] or value in peer.harmless[field])
