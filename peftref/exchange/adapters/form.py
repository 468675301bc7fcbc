"""A technique as adapters has it: its config, and where each of its leaves lies in which tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from peftref.core.problem import PeftrefError, Problem, fail
from peftref.design.peer import Peer
from peftref.design.placement import Copy, Placement, copies, placements
from peftref.design.technique import Technique
from peftref.exchange.adapters.library import LIBRARY, Type, holder, layer_number, library, slot_names, standing
from peftref.exchange.adapters.orthogonal import parametrised
from peftref.exchange.layout import Layout, Place, numbered, packed
from peftref.exchange.terms import solved, value_of
from peftref.host.architecture import slots_of
from peftref.host.host import Host
from peftref.host.site import Site
from peftref.language.ops.orthogonal import gram_schmidt

UNION, GATE = "union", "gate/"


def peer_of(technique: Technique) -> Peer:
    """What adapters calls a technique. Raises PeftrefError `no-peer` where its file does not say, or says why not."""
    found = technique.peers.get(LIBRARY)
    if found is not None and found.refused:
        raise fail("no-peer", f"{technique.name} cannot be a checkpoint of {LIBRARY}: {found.refused}")
    if found is None:
        hint = "describe it under `peers: {adapters: ...}` in the technique's file"
        raise fail("no-peer", f"{technique.name} is not known to {LIBRARY}", hint=hint)
    return found


def parts_of(technique: Technique) -> tuple[tuple[Peer, Type], ...]:
    """The configs that make up a technique, each with its type: one, or those of a union."""
    peer = peer_of(technique)
    return tuple((part, library().types[part.type]) for part in peer.parts or (peer,))


def config(technique: Technique, host: Host) -> dict[str, Any]:
    """The config that adapters has for a technique on a host.

    Raises PeftrefError `no-peer`, `peer-field` for a setting that it cannot have, and `peer-targets` where the technique stands
    at other sites than any config of adapters does.
    """
    placed = placements(technique, host)
    made, problems = [], []
    for part, kind in parts_of(technique):
        fields = dict(kind.fields)
        for name, value in part.ours.items():
            if technique.settings[name] != value:
                text = f"{LIBRARY} has {technique.name} with {name} = {value} only, not {technique.settings[name]}"
                problems.append(Problem("peer-field", text))
        said: dict[str, Any] = {}
        sizes = dict(host.stacks[0].sizes)
        for ours, text in part.settings.items():
            value = technique.settings[ours]
            said |= solved(text, part.values.get(ours, {}).get(str(value), value), sizes | said)
        whole = {
            field for field, value in said.items() if isinstance(value, int) and isinstance(fields.get(field), float)
        }
        fields |= said | {field: float(said[field]) for field in whole} | dict(part.fixed)
        for field, other in part.follow.items():
            value = value_of(str(other), sizes | fields)
            if field in said and fields[field] != value:
                told = f"{LIBRARY} has {technique.name} with {field} = {other} only, not {fields[field]}"
                problems.append(Problem("peer-field", told))
            fields[field] = value
        sites = [each.site for each in placed if _names(each) & part.keys.keys() and each.site.slot in kind.known]
        _stand(kind, host, sites, fields)
        problems += [*_misplaced(technique, part, kind, host, sites, fields), *_cut(technique, part, placed)]
        made.append(({"architecture": kind.architecture} if kind.architecture else {}) | fields)
    problems += otherwise(technique, placed)
    if problems:
        raise PeftrefError(problems)
    return {"architecture": UNION, "configs": made} if peer_of(technique).parts else made[0]


def _names(placement: Placement) -> set[str]:
    return {leaf.name for leaf in placement.leaves}


def _stand(kind: Type, host: Host, sites: list[Site], fields: dict[str, Any]) -> None:
    """Sets the fields that say where a module stands."""
    names = {name for site in sites for name in slot_names(site, host)}
    flags = kind.flags | {key: value for key, value in library().family(host).flags.items() if key in kind.flags}
    every_name = {name for site in host.sites for name in slot_names(site, host)}
    for field, slots in flags.items():
        if every_name & set(slots):
            fields[field] = bool(names & set(slots))
    for field, words in kind.lists.items():
        fields[field] = [word for word, slots in words.items() if names & set(slots)]
    here = {number for site in sites if (number := layer_number(site, host)) is not None}
    every = range(sum(stack.n_layers for stack in host.stacks))
    if kind.left_out:
        fields[kind.left_out] = [number for number in every if here and number not in here]
    if kind.chosen:
        fields[kind.chosen] = "all" if len(here) == len(every) else sorted(here)


def _misplaced(
    technique: Technique, part: Peer, kind: Type, host: Host, sites: list[Site], fields: dict[str, Any]
) -> Iterator[Problem]:
    """Where a technique stands and adapters would not, or the other way round."""
    family = library().family(host)
    for site in sites:
        if holder(kind, host, site, "") is None or not standing(kind, family, site, host, fields):
            yield Problem("peer-targets", f"{LIBRARY} has no {part.type} at {site.name} of {host.name}")
    could = groups(kind, technique, part)
    for site in host.sites:
        free = site.slot in could and site not in sites and holder(kind, host, site, "") is not None
        if free and standing(kind, family, site, host, fields):
            text = f"{LIBRARY} would stand at {site.name} of {host.name} too, where {technique.name} does not"
            yield Problem("peer-targets", text)


def _cut(technique: Technique, part: Peer, placed: tuple[Placement, ...]) -> Iterator[Problem]:
    """Sites that need less of a leaf than others, which adapters cannot give them."""
    whole = {copy.name: copy.shape for copy in copies(technique, placed)}
    for placement in placed:
        for copy in copies(technique, (placement,)):
            if copy.leaf.name in part.keys and copy.shape != whole[copy.name]:
                text = f"{LIBRARY} cuts no {copy.leaf.name} of {technique.name} to what {placement.site.name} needs"
                yield Problem("peer-targets", text)


def otherwise(technique: Technique, placed: tuple[Placement, ...]) -> Iterator[Problem]:
    """Sites at which adapters computes something else than a technique."""
    wary = {name for part, _ in parts_of(technique) if "b" in part.without for name in part.keys}
    for placement in placed:
        if _names(placement) & wary and "b" not in placement.site.lacks:
            text = f"{LIBRARY} computes something else than {technique.name} at {placement.site.name}: it has a bias"
            yield Problem("peer-targets", text)


def groups(kind: Type, technique: Technique, part: Peer) -> frozenset[str]:
    """The slots at which the insertions of a part may stand in adapters."""
    mine = [insert for insert in technique.insert if part.keys.keys() & insert.leaves.keys()]
    own = {slot for insert in mine for word in insert.at for slot in slots_of(word)}
    return frozenset(slot for group in kind.slots if own & {*group} for slot in group)


def places(technique: Technique, host: Host, name: str) -> dict[str, Place]:
    """Where the copies of a technique's leaves lie, by the names of the copies; name: the module's own in adapters."""
    made = copies(technique, placements(technique, host))
    found: dict[str, tuple[Place, int | None]] = {}
    for part, kind in parts_of(technique):
        for copy in made:
            if copy.leaf.name in part.keys:
                text = part.layouts.get(copy.leaf.name)
                lies = Layout.parse(text) if text else Layout.same(len(copy.shape))
                columns = copy.leaf.name in part.orthonormal
                place = Place(_key(part, kind, host, copy, name), lies, copy.shape, orthonormal=columns)
                found[copy.name] = (place, copy.sites[0].layer)
    return numbered(found)


def _key(part: Peer, kind: Type, host: Host, copy: Copy, name: str) -> str:
    text = part.keys[copy.leaf.name]
    if text.startswith("/"):
        return text[1:].replace("<name>", name)
    found = holder(kind, host, copy.sites[0], name, gate=text.startswith(GATE))
    if found is None:
        raise fail("peer-targets", f"{LIBRARY} has no {part.type} at {copy.sites[0].name} of {host.name}")
    return f"{found}.{text.removeprefix(GATE)}"


@torch.no_grad()
def state(technique: Technique, host: Host, leaves: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors of a module by the names that adapters has for them. leaves: by the names of their copies."""
    lies = places(technique, host, name)
    columns = {own: gram_schmidt(leaves[own]) for own, place in lies.items() if place.orthonormal}
    tensors = packed(lies, {**leaves, **columns})
    for own in columns:
        key = lies[own].key
        tensors |= parametrised(key, tensors.pop(key))
    return tensors
