"""A technique as huggingface/peft has it: its config, and the names of its tensors there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from peftref.design.placement import Copy, copies, placements
from peftref.design.technique import Peer, Technique
from peftref.exchange.fold import folded, kept_as
from peftref.exchange.layout import packed
from peftref.exchange.peft.standing import LIBRARY as LIBRARY
from peftref.exchange.peft.standing import host_fields, misplaced, on_model, places, unlike
from peftref.host.architecture import slots_of
from peftref.host.host import Host
from peftref.host.site import Site
from peftref.problem import PeftrefError, Problem, fail

if TYPE_CHECKING:
    from peft import PeftModel

PREFIX = "base_model.model."


def peer_of(technique: Technique) -> Peer:
    """What peft calls a technique. Raises PeftrefError `no-peer` where its file does not say."""
    found = technique.peers.get(LIBRARY)
    if found is None:
        hint = "describe it under `peers: {peft: ...}` in the technique's file"
        raise fail("no-peer", f"{technique.name} is not known to {LIBRARY}", hint=hint)
    return found


def config(technique: Technique, host: Host) -> dict[str, Any]:
    """The fields of peft's config for a technique on a host, its type among them; modules are named by their whole paths.

    Raises PeftrefError `no-peer`; `peer-slice` where a slot is a part of a fused projection, which peft cannot target; `peer-field`
    for a setting that peft cannot have; `peer-targets` for a stack in which it does not stand; `peer-differs` on a host on which
    it computes something else.

    >>> from peftref.design.load import load
    >>> from peftref.host.resolve import resolve
    >>> found = config(load("lora", r=4), resolve("bert-base"))
    >>> found["peft_type"], found["r"], found["target_modules"][0]
    ('LORA', 4, 'encoder.layer.0.attention.self.query')
    """
    peer = peer_of(technique)
    placed = placements(technique, host)
    fused = [each.site.name for each in placed if _sliced(each.site.ports)]
    if fused:
        text = f"{fused[0]} is a part of a fused projection, and {LIBRARY} takes whole modules only"
        raise PeftrefError([Problem("peer-slice", text, hint="choose slots that are modules of their own")])
    words = () if any(on_model(each.site) for each in placed) else (word for one in technique.insert for word in one.at)
    targets = peer.targets or ({"target_modules": every} if (every := tuple(words)) else {})
    modules = {
        field: list(dict.fromkeys(each.site.path for each in placed if each.site.slot in _slots(slots)))
        for field, slots in targets.items()
    }
    problems = [*unlike(technique, peer), *misplaced(technique, host, peer)]
    if problems:
        raise PeftrefError(problems)
    settings = {theirs: technique.settings[ours] for ours, theirs in peer.settings.items()}
    sums = {theirs: sum(int(technique.settings[each]) for each in ours) for theirs, ours in peer.sums.items()}
    lists = {theirs: [0] * int(technique.settings[ours]) for theirs, ours in peer.lists.items()}
    told = settings | sums | lists | host_fields(technique, host, peer)
    return {"peft_type": peer.type, **told, **dict(peer.fixed), **modules}


def state(technique: Technique, host: Host, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a module by the names that peft saves them under. leaves: by the names of their copies.

    Raises PeftrefError `no-peer`, also where only the config is known.
    """
    peer = peer_of(technique)
    if peer.folds:
        into = kept_as(technique, peer.folds)
        return state(into, host, folded(technique, into, host, leaves))
    if not peer.keys:
        raise fail("no-peer", f"{LIBRARY} keeps the tensors of {technique.name} in another form")
    found = keys(technique, copies(technique, placements(technique, host)))
    own = {
        key: _paired(leaves[copy.name], copy) if copy.leaf.name in peer.pairs else leaves[copy.name]
        for key, copy in found.items()
    }
    return own | packed(places(technique, host), leaves)


def keys(technique: Technique, made: Iterable[Copy]) -> dict[str, Copy]:
    """The copies of the leaves that peft saves each as a tensor of its own, by its names."""
    peer = peer_of(technique)
    return {
        _key(peer, copy): copy for copy in made if copy.leaf.name in peer.keys and copy.leaf.name not in peer.layouts
    }


def made(technique: Technique, host: Host, model: PeftModel) -> dict[str, Tensor]:
    """The frozen leaves that peft makes itself and does not save, read from its live model, by the names of their copies."""
    peer = peer_of(technique)
    found = {}
    for copy in copies(technique, placements(technique, host)):
        if copy.leaf.name in peer.buffers:
            layer = model.base_model.model.get_submodule(copy.sites[0].path)
            value = getattr(layer, peer.buffers[copy.leaf.name])["default"]
            found[copy.name] = unpaired(value, copy, peer)
    return found


def in_front(technique: Technique, host: Host) -> bool:
    """Whether peft puts it in front of the model's input or of its keys, and on none of its modules."""
    return all(on_model(each.site) for each in placements(technique, host))


def host_names(key: str) -> tuple[str, ...]:
    """What the host itself may call a tensor that peft saves: peft wraps the whole model in one or in two modules."""
    return key.removeprefix(PREFIX), key.removeprefix("base_model.")


def _paired(positions: Tensor, copy: Copy) -> Tensor:
    """Positions in a flat weight as rows and columns of it."""
    width = copy.sites[0].sizes["d_in"]
    return torch.stack([positions // width, positions % width])


def unpaired(value: Tensor, copy: Copy, peer: Peer) -> Tensor:
    """Positions as peft saves them, as positions in a flat weight; any other tensor as it is."""
    return value[0].long() * copy.sites[0].sizes["d_in"] + value[1] if copy.leaf.name in peer.pairs else value


def whole_module(site: Site) -> bool:
    """Whether a site is a module of its own, not a part of a fused one."""
    return not _sliced(site.ports)


def _key(peer: Peer, copy: Copy) -> str:
    key = peer.keys[copy.leaf.name]
    if copy.sites[0].form == "table":
        key = peer.tables.get(copy.leaf.name, key)
    if key.startswith("/"):
        return key[1:]
    return key if key.startswith("base_model.") else f"{PREFIX}{copy.sites[0].path}.{key}"


def _slots(words: tuple[str, ...]) -> set[str]:
    return {slot for word in words for slot in slots_of(word)}


def _sliced(ports: Mapping[str, Any]) -> bool:
    port = ports.get("h")
    return port is not None and port.rows is not None
