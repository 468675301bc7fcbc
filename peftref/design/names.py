"""The names of a technique: every slot, setting, quantity and procedure that it speaks of must exist, none may clash."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from peftref.core.problem import PeftrefError, Problem, nearest
from peftref.design.peer import Peer
from peftref.design.procedures import PROCEDURES, arguments, leaves, served
from peftref.design.technique import Insert, Leaf, Technique, size_problem
from peftref.design.yaml_document import Document, Path
from peftref.host.architecture import ARCHITECTURE, SIZES, WORDS, slots_of
from peftref.language.ops import TABLE


def name_problems(technique: Technique, document: Document) -> list[Problem]:
    """Every name that is unknown or clashes: `unknown-slot`, `unknown-setting`, `shadowed-name`, ... with its place."""
    found = list(_slots(technique, document))
    found += _sizes(technique, document)
    found += _settings(technique, document)
    found += _procedures(technique, document)
    found += _carried(technique, document)
    for library, peer in technique.peers.items():
        found += _peer(technique, peer, document, ("peers", library))
    for number, insert in enumerate(technique.insert):
        found += _layers(technique, insert, document, number)
        found += _said(technique, insert, document, number)
        for name, leaf in insert.leaves.items():
            path: Path = ("insert", number, "leaves", name)
            found += _clash(technique, insert, name, document, path)
            found += _init(technique, leaf, document, path)
            found += _read_leaves(insert, name, document, path)
    return found


_PEER_LEAVES = ("listed", "keys", "tables", "layouts", "live", "buffers", "orthonormal", "pairs", "shifted", "negated")
_PEER_SETTINGS = ("settings", "values", "ours")
"""Fields of a peer that name leaves and settings of the technique."""


def _peer(technique: Technique, peer: Peer, document: Document, path: Path) -> Iterator[Problem]:
    """What a peer library is said to call leaves and settings that are not there: a technique was copied and changed."""
    leaves = {name for insert in technique.insert for name in insert.leaves}
    for field in _PEER_LEAVES:
        for place, name in enumerate(getattr(peer, field)):
            if name not in leaves:
                text = f"there is no leaf {name}, of which {path[1]} is said to have one"
                hint = (
                    nearest(name, leaves) or "take it out, or leave out peers until the technique is what the peer has"
                )
                yield Problem(
                    "unknown-leaf", text, document.place(*_nearest_path(document, path, field, name, place)), hint=hint
                )
    for field in _PEER_SETTINGS:
        for place, name in enumerate(getattr(peer, field)):
            if name not in technique.settings:
                yield _unknown(technique, name, document, _nearest_path(document, path, field, name, place))
    for number, part in enumerate(peer.parts):
        yield from _peer(technique, part, document, (*path, "parts", number))


def _nearest_path(document: Document, path: Path, field: str, name: str, place: int) -> Path:
    """Where a name stands under a field that is a mapping or a list, or the field itself."""
    tries: list[Path] = [(*path, field, name), (*path, field, place), (*path, field), path]
    return next((each for each in tries if each in document.spans), path)


def known_slots(insert: Insert) -> tuple[str, ...]:
    """The slots of the reference architecture that an insertion goes to: stacks taken off, words for several written out.

    >>> known_slots(Insert(at=["ffn", "decoder.ffn", "attention.core"], equation="h' = h"))
    ('ffn', 'attention.core', 'cross_attention.core')
    """
    return tuple(dict.fromkeys(slot for at in insert.at for slot in slots_of(at)))


def _slots(technique: Technique, document: Document) -> Iterator[Problem]:
    wanted: list[tuple[str, Path, Path]] = []
    for number, insert in enumerate(technique.insert):
        wanted += [(at, ("insert", number, "at"), (place,)) for place, at in enumerate(insert.at)]
    if isinstance(technique.tune, tuple):
        wanted += [(slot, ("tune",), (place,)) for place, slot in enumerate(technique.tune)]
    for at, field, item in wanted:
        if not slots_of(at):
            hint = nearest(at, WORDS) or "peftref slots draws them all"
            path = (*field, *item) if (*field, *item) in document.spans else field
            yield Problem("unknown-slot", f"there is no slot {at}", document.place(*path), hint=hint)


def _sizes(technique: Technique, document: Document) -> Iterator[Problem]:
    for name in technique.size_settings():
        problem = size_problem(name, technique.settings[name], document.place("settings", name))
        if problem:
            yield problem
    if technique.budget is not None and technique.budget not in technique.settings:
        yield _unknown(technique, technique.budget, document, ("budget",))
    elif technique.budget is not None and technique.budget not in technique.size_settings():
        text = f"the setting {technique.budget} is not the size of any leaf, so no budget can turn it"
        yield Problem("bad-value", text, document.place("budget"))


def _procedures(technique: Technique, document: Document) -> Iterator[Problem]:
    for number, procedure in enumerate(technique.procedures):
        path: Path = ("procedures", number)
        if procedure.name not in PROCEDURES:
            text = f"there is no procedure {procedure.name}"
            hint = nearest(procedure.name, PROCEDURES) or f"procedures are {', '.join(PROCEDURES)}"
            yield Problem("unknown-procedure", text, document.place(*path, "name"), hint=hint)
            continue
        try:
            arguments(procedure, technique)
        except PeftrefError as error:
            yield from (replace(problem, place=document.place(*path, "name")) for problem in error.problems)
            continue
        if not any(served(procedure, technique)):
            known = {leaf for insert in technique.insert for leaf in insert.leaves}
            wanted = leaves(procedure)
            missing = [leaf for leaf in wanted.values() if leaf not in known]
            text = f"no insertion has all the leaves of {procedure.name}: {', '.join(wanted.values())}"
            near = nearest(missing[0], known) if missing else None
            yield Problem("unknown-leaf", text, document.place(*path, "name"), hint=near)


def _settings(technique: Technique, document: Document) -> Iterator[Problem]:
    for name in technique.settings:
        meaning = f"a size of the host: {SIZES[name]}" if name in SIZES else None
        for insert in technique.insert:
            meaning = meaning or _quantity(insert, name)
        if meaning:
            place = document.key("settings", name)
            yield Problem("shadowed-name", f"{name} already is {meaning}", place, hint="choose another name")


def _carried(technique: Technique, document: Document) -> Iterator[Problem]:
    """What is carried clashes with whatever else has its name anywhere in the technique."""
    for name in technique.carries:
        wrong: Problem | None = None
        for insert in technique.insert or (None,):
            if insert is not None and name in insert.leaves:
                place = document.key("carries", name)
                hint = "choose another name"
                wrong = wrong or Problem("shadowed-name", f"{name} already is a leaf", place, hint=hint)
            wrong = wrong or next(_clash(technique, insert, name, document, ("carries", name)), None)
        if wrong is not None:
            yield wrong


def _clash(technique: Technique, insert: Insert | None, name: str, document: Document, path: Path) -> Iterator[Problem]:
    if name in technique.settings:
        meaning: str | None = "a setting"
    elif name in SIZES:
        meaning = f"a size of the host: {SIZES[name]}"
    elif name in TABLE:
        meaning = f"an op: {TABLE[name].about}"
    else:
        meaning = None if insert is None else _quantity(insert, name)
    if meaning:
        yield Problem("shadowed-name", f"{name} already is {meaning}", document.key(*path), hint="choose another name")


def _quantity(insert: Insert, name: str) -> str | None:
    for slot in known_slots(insert):
        for quantity in ARCHITECTURE.kind(ARCHITECTURE.slot(slot).kind).quantities:
            if quantity.name == name:
                return f"a quantity of {slot}: {quantity.about}"
    return None


def _layers(technique: Technique, insert: Insert, document: Document, number: int) -> Iterator[Problem]:
    for name in insert.layers.settings():
        if name not in technique.settings:
            yield _unknown(technique, name, document, ("insert", number, "layers", insert.layers.rule))


def _said(technique: Technique, insert: Insert, document: Document, number: int) -> Iterator[Problem]:
    """What is true or false, or a setting that is."""
    for field in ("counted", "stays"):
        name, path = getattr(insert, field), ("insert", number, field)
        if isinstance(name, str) and name not in technique.settings:
            yield _unknown(technique, name, document, path)
        elif isinstance(name, str) and not isinstance(technique.settings[name], bool):
            text = f"{field} is true or false, and the setting {name} is not"
            yield Problem("bad-value", text, document.place(*path))


def _init(technique: Technique, leaf: Leaf, document: Document, path: Path) -> Iterator[Problem]:
    place = (*path, "init")
    for parameter, name in leaf.init.settings():
        if name not in technique.settings:
            yield _unknown(technique, name, document, (*place, leaf.init.name, parameter))
        elif isinstance(technique.settings[name], str | bool):
            text = f"{parameter} of the init {leaf.init.name} is a number, and the setting {name} is not"
            yield Problem("bad-value", text, document.place(*place))
    if isinstance(leaf.lr, str) and not isinstance(technique.settings.get(leaf.lr, "none"), int | float):
        yield _unknown(technique, leaf.lr, document, (*path, "lr"))
    row = leaf.init.row
    if row.whole and not leaf.frozen:
        text = f"the init {row.name} gives whole numbers, and those are never trained"
        yield Problem("bad-value", text, document.place(*place), hint="write frozen: true")
    if leaf.fit and not (leaf.frozen and leaf.scope in ("slot", "design")):
        text = "fit is for a frozen leaf that sites of several sizes share"
        yield Problem("bad-value", text, document.place(*path, "fit"), hint="write frozen: true and scope: design")
    if len(leaf.shape) < row.axes:
        shown = f"[{', '.join(leaf.shape)}]"
        text = f"the init {row.name} needs at least {row.axes} axes, and the shape is {shown}"
        yield Problem("init-axes", text, document.place(*place))
    if row.reads_host and leaf.scope != "site":
        text = f"the init {row.name} reads a site of the host, and this leaf is shared more widely, by {leaf.scope}"
        yield Problem("init-scope", text, document.place(*place), hint="leave out scope, or choose another init")


def _read_leaves(insert: Insert, name: str, document: Document, path: Path) -> Iterator[Problem]:
    """Other leaves that an init reads: they must be there, and begin on their own."""
    others = {other: leaf for other, leaf in insert.leaves.items() if other != name and not leaf.init.leaves()}
    for wanted in insert.leaves[name].init.leaves():
        if wanted not in others:
            text = f"there is no leaf {wanted} for {name} to begin from"
            hint = nearest(wanted, others) or "another leaf of the insertion, whose own init reads no leaf"
            yield Problem("unknown-leaf", text, document.place(*path, "init"), hint=hint)


def _unknown(technique: Technique, name: str, document: Document, path: Path) -> Problem:
    names = tuple(technique.settings)
    hint = nearest(name, names) or (f"settings are {', '.join(names)}" if names else "declare it under settings")
    while path and path not in document.spans:
        path = path[:-1]
    return Problem("unknown-setting", f"there is no setting {name}", document.place(*path), hint=hint)
