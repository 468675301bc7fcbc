"""A technique as huggingface/peft has it: its config, and the names of its tensors there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from peftref.core.problem import PeftrefError, Problem, fail
from peftref.design.placement import Copy, copies, placements
from peftref.design.technique import Peer, Technique
from peftref.exchange.fold import folded, kept_as
from peftref.exchange.layout import packed
from peftref.exchange.peft import fields
from peftref.exchange.peft.standing import LIBRARY as LIBRARY
from peftref.exchange.peft.standing import PREFIX as PREFIX
from peftref.exchange.peft.standing import host_fields, misplaced, on_model, places, unsettable
from peftref.host.architecture import slots_of
from peftref.host.host import Host
from peftref.host.site import Site
from peftref.modules.compile.module import initialise

if TYPE_CHECKING:
    from peft import PeftModel


def peer_of(technique: Technique) -> Peer:
    """What peft calls a technique. Raises PeftrefError `no-peer` where its file does not say."""
    found = technique.peers.get(LIBRARY)
    if found is None:
        hint = "describe it under `peers: {peft: ...}` in the technique's file"
        raise fail("no-peer", f"{technique.name} is not known to {LIBRARY}", hint=hint)
    return found


def config(technique: Technique, host: Host, leaves: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """The fields of peft's config for a technique on a host, its type among them; modules are named by their whole paths.

    Modules that share a leaf are named by the end of the path that they alone have in common, by which peft knows that they share.
    leaves: by the names of their copies, for those that stand in a config; left out, as they begin.

    Raises PeftrefError `no-peer`; `peer-slice` where a slot is a part of a fused projection, which peft cannot target; `peer-field`
    for a setting that peft cannot have; `peer-targets` for a stack in which it does not stand; `peer-differs` on a host on which
    it computes something else.

    >>> from peftref.design.load import load
    >>> from peftref.host.locate.resolve import resolve
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
    shared = any(leaf.scope == "slot" and leaf.name in peer.keys for each in placed for leaf in each.leaves)
    modules = {}
    for field, slots in targets.items():
        sites = [each.site for each in placed if each.site.slot in _slots(slots)]
        modules[field] = list(dict.fromkeys(_ends(sites, host) if shared else (site.path for site in sites)))
    made = copies(technique, placed) if peer.listed else ()
    lists = {
        peer.listed[copy.leaf.name]: _numbers(technique, copy, leaves) for copy in made if copy.leaf.name in peer.listed
    }
    problems = [*unsettable(technique, peer), *misplaced(technique, host, peer)]
    if problems:
        raise PeftrefError(problems)
    told = fields.written(technique, peer, lists)
    told |= host_fields(technique, host, peer, told)
    return {"peft_type": peer.type, **fields.nested(told), **modules}


def state(technique: Technique, host: Host, leaves: Mapping[str, Tensor], theirs: PeftModel) -> dict[str, Tensor]:
    """The tensors of a module by the names that peft saves them under. leaves: by the names of their copies.

    theirs: what peft makes of the host, as it begins. Raises PeftrefError `no-peer`, also where only the config is known.
    """
    peer = peer_of(technique)
    if peer.folds:
        into = kept_as(technique, peer.folds)
        return state(into, host, folded(technique, into, host, leaves), theirs)
    if peer.refused or not peer.keys:
        reason = peer.refused or f"{LIBRARY} keeps the tensors of {technique.name} in another form"
        raise fail("no-peer", reason)
    found = keys(technique, copies(technique, placements(technique, host)), targeted(theirs))
    less = {copy.name for copy in copies(technique, placements(technique, host)) if copy.leaf.name in peer.negated}
    leaves = {name: -leaf if name in less else leaf for name, leaf in leaves.items()}
    first = beginning(theirs) if peer.shifted else {}
    own = {key: _theirs(leaves[copy.name], copy, peer, first.get(key)) for key, copy in found.items()}
    return own | packed(places(technique, host), leaves)


def targeted(theirs: PeftModel) -> tuple[str, ...]:
    """The modules on which peft stands, in its order; none where it stands on the whole model."""
    return tuple(getattr(theirs, "targeted_module_names", ()))


def keys(technique: Technique, made: Iterable[Copy], order: Sequence[str] = ()) -> dict[str, Copy]:
    """The copies of the leaves that peft saves each as a tensor of its own, by its names; one that several sites share has several.

    order: the modules on which peft stands, in its order.
    """
    peer = peer_of(technique)
    return {
        _key(peer, copy, site, order): copy
        for copy in made
        if copy.leaf.name in peer.keys and copy.leaf.name not in peer.layouts
        for site in copy.sites
    }


def looked_at(technique: Technique) -> bool:
    """Whether equal tensors are not enough to be alike: peft changes the host, or sites read parts of one tensor."""
    fits = any(leaf.fit for insert in technique.insert for leaf in insert.leaves.values())
    return fits or peer_of(technique).mutates is not None


def beginning(theirs: PeftModel) -> dict[str, Tensor]:
    """The tensors that a module of peft would save now."""
    from peft.utils import get_peft_model_state_dict

    found: dict[str, Tensor] = get_peft_model_state_dict(theirs, save_embedding_layers=False)
    return found


def still(theirs: PeftModel, like: Mapping[str, Tensor]) -> set[str]:
    """The keys of what peft saves and does not train."""
    trained = {parameter.data_ptr() for parameter in theirs.parameters() if parameter.requires_grad}
    return {key for key, value in like.items() if value.data_ptr() not in trained}


def made(technique: Technique, host: Host, model: PeftModel) -> dict[str, Tensor]:
    """The frozen leaves that peft makes itself and does not save, read from its live model, by the names of their copies."""
    peer = peer_of(technique)
    found = {}
    for copy in copies(technique, placements(technique, host)):
        if copy.leaf.name in peer.buffers:
            value: Any = model.base_model.model.get_submodule(copy.sites[0].path)
            for name in peer.buffers[copy.leaf.name].split("."):
                value = getattr(value, name)
                value = value["default"] if hasattr(value, "keys") else value
            found[copy.name] = ours(value.detach(), copy, peer, None)
    return found


def in_front(technique: Technique, host: Host) -> bool:
    """Whether peft puts it in front of the model's input or of its keys, and on none of its modules."""
    return not peer_of(technique).targets and all(on_model(each.site) for each in placements(technique, host))


def host_names(key: str) -> tuple[str, ...]:
    """What the host itself may call a tensor that peft saves: peft wraps the whole model in one or in two modules."""
    return key.removeprefix(PREFIX), key.removeprefix("base_model.")


def ours(value: Tensor, copy: Copy, peer: Peer, first: Tensor | None) -> Tensor:
    """A tensor of peft as a leaf: positions in rows and columns as those in a flat weight, without the host's numbers in it.

    first: as peft's begins.
    """
    if copy.leaf.name in peer.pairs:
        return value[0].long() * copy.sites[0].sizes["d_in"] + value[1]
    if copy.leaf.name in peer.shifted and first is not None and first.shape == value.shape:
        return value - first.to(value)
    return value


def _theirs(leaf: Tensor, copy: Copy, peer: Peer, first: Tensor | None) -> Tensor:
    """A leaf as peft keeps it, the other way round."""
    if copy.leaf.name in peer.pairs:
        width = copy.sites[0].sizes["d_in"]
        return torch.stack([leaf // width, leaf % width])
    if copy.leaf.name in peer.shifted and first is not None:
        return leaf.reshape(first.shape) + first.to(leaf)
    return leaf


def _numbers(technique: Technique, copy: Copy, leaves: Mapping[str, Tensor] | None) -> list[int]:
    """The numbers of a leaf that stands in a config."""
    if leaves is not None:
        return [int(each) for each in leaves[copy.name]]
    first = torch.empty(copy.shape, dtype=torch.long)
    initialise(first, copy, technique.settings, {}, 0)
    return [int(each) for each in first]


def _ends(sites: list[Site], host: Host) -> list[str]:
    """What names sites to peft: for each slot the end of the path that its modules alone have in common, else whole paths."""
    groups: dict[tuple[str, str], list[str]] = {}
    for site in sites:
        groups.setdefault((site.stack, site.slot), []).append(site.path)
    every, found = {site.path for site in host.sites}, []
    for paths in groups.values():
        end = _common_end(paths)
        alone = {path for path in every if path == end or path.endswith(f".{end}")} == set(paths)
        found += [end] if end and alone else paths
    return found


def _common_end(paths: list[str]) -> str:
    found: list[str] = []
    for names in zip(*(reversed(path.split(".")) for path in paths), strict=False):
        if len(set(names)) > 1:
            break
        found.insert(0, names[0])
    return ".".join(found)


def whole_module(site: Site) -> bool:
    """Whether a site is a module of its own, not a part of a fused one."""
    return not _sliced(site.ports)


def _key(peer: Peer, copy: Copy, site: Site, order: Sequence[str]) -> str:
    key = peer.keys[copy.leaf.name]
    if site.form == "table":
        key = peer.tables.get(copy.leaf.name, key)
    if key.startswith("/"):
        return key[1:]
    if "<n>" in key:
        key = key.replace("<n>", str(order.index(site.path)))
    return key if key.startswith("base_model.") else f"{PREFIX}{site.path}.{key}"


def _slots(words: tuple[str, ...]) -> set[str]:
    return {slot for word in words for slot in slots_of(word)}


def _sliced(ports: Mapping[str, Any]) -> bool:
    port = ports.get("h")
    return port is not None and port.rows is not None
