"""Where peft stands with what it puts in front of a host's input or of its keys, and how the leaves of all layers lie together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from peftref.core.problem import Problem, fail
from peftref.design.peer import Peer
from peftref.design.placement import copies, numbers, placements
from peftref.design.technique import Technique
from peftref.exchange.layout import Layout, Place, numbered
from peftref.exchange.terms import value_of
from peftref.host.host import Host
from peftref.host.site import Site

LIBRARY = "peft"
PREFIX = "base_model.model."
"""What stands in its keys in front of the host's own names."""


def on_model(site: Site) -> bool:
    """Whether peft stands on the model there and not on one of its modules."""
    return site.kind in ("sequence", "core")


def in_stack(technique: Technique, host: Host) -> Technique:
    """The technique in the stack in which peft has it."""
    peer = technique.peers[LIBRARY]
    if peer.stack is None or len(host.stacks) == 1 or peer.stack not in {stack.name for stack in host.stacks}:
        return technique
    inserts = tuple(each.model_copy(update={"stacks": (peer.stack,)}) for each in technique.insert)
    return technique.model_copy(update={"insert": inserts})


def host_fields(
    technique: Technique, host: Host, peer: Peer, fields: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """The fields of peft's config that follow from the host and from other fields."""
    if not peer.follow:
        return {}
    sizes = numbers(placements(technique, host)[0].site, {})
    return {theirs: value_of(str(text), {**sizes, **fields}) for theirs, text in peer.follow.items()}


def unsettable(technique: Technique, peer: Peer) -> Iterator[Problem]:
    """The settings that peft cannot have."""
    for name, value in peer.ours.items():
        if technique.settings[name] != value:
            text = f"{LIBRARY} has {technique.name} with {name} = {value} only, not {technique.settings[name]}"
            yield Problem("peer-field", text)


def misplaced(technique: Technique, host: Host, peer: Peer) -> Iterator[Problem]:
    """Where the technique stands and peft would not, and hosts on which peft computes something else."""
    named = {host.model_type: host.model_type} | (
        {"several": "a host of several stacks"} if len(host.stacks) > 1 else {}
    )
    for kind, name in named.items():
        if kind in peer.apart:
            yield Problem(
                "peer-differs", f"{LIBRARY} computes something else with {peer.type} on {name}: {peer.apart[kind]}"
            )
    for each in peer.without:
        slot, _, quantity = each.rpartition(".")
        if any(site.slot == slot and quantity not in site.lacks for site in host.sites):
            text = f"{LIBRARY} computes something else with {peer.type} on {host.name}: it counts {each} twice"
            yield Problem("peer-differs", text)
    if peer.stack is not None and len(host.stacks) > 1:
        stacks = {each.site.stack for each in placements(technique, host)}
        if stacks != {peer.stack}:
            text = f"{LIBRARY} has {technique.name} in the {peer.stack} alone, and it stands in {', '.join(sorted(stacks))}"
            yield Problem("peer-targets", text, hint=f"write `stacks: [{peer.stack}]` into the insertion")


def places(technique: Technique, host: Host, live: Mapping[str, str] | None = None) -> dict[str, Place]:
    """Where the leaves lie that share a tensor, by the names of their copies; live: the parameters of a running model instead.

    Raises PeftrefError `peer-differs` where they do not fit into one.
    """
    peer = technique.peers[LIBRARY]
    names = {leaf: key for leaf, key in peer.keys.items() if leaf in peer.layouts} if live is None else live
    sizes = tuple((name, value) for name, value in technique.settings.items() if type(value) is int)
    found: dict[str, tuple[Place, int | None]] = {}
    for copy in copies(technique, placements(technique, host)) if names else ():
        leaf = copy.leaf.name
        if leaf in names:
            layout = Layout.parse(peer.layouts[leaf]) if leaf in peer.layouts else Layout.same(len(copy.shape))
            layout = layout if live is None else layout.alone()
            site, key = copy.sites[0], names[leaf]
            within = live is not None or key.startswith("/")
            key = key.removeprefix("/") if within else f"{PREFIX}{site.path}.{key}"
            found[copy.name] = (Place(key, layout, copy.shape, sizes=sizes), site.layer)
    made = numbered(found)
    shapes: dict[str, tuple[int, ...]] = {}
    for place in made.values():
        if shapes.setdefault(place.key, place.shape) != place.shape:
            raise fail(
                "peer-differs", f"{technique.name} has parts of several sizes in {host.name}, and {LIBRARY} of one"
            )
    return made
