"""A technique as huggingface/peft has it: its config, and the names of its tensors there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from peftref.design.placement import Copy, copies, placements
from peftref.design.technique import Peer, Technique
from peftref.host.architecture import slots_of
from peftref.host.host import Host
from peftref.problem import PeftrefError, Problem, fail

LIBRARY = "peft"
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

    Raises PeftrefError `no-peer`, and `peer-slice` where a slot is a part of a fused projection, which peft cannot target.

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
    targets = peer.targets or {"target_modules": tuple(slot for insert in technique.insert for slot in insert.at)}
    modules = {
        field: list(dict.fromkeys(each.site.path for each in placed if each.site.slot in _slots(words)))
        for field, words in targets.items()
    }
    settings = {theirs: technique.settings[ours] for ours, theirs in peer.settings.items()}
    return {"peft_type": peer.type, **settings, **dict(peer.fixed), **modules}


def state(technique: Technique, host: Host, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a module by the names that peft saves them under. leaves: by the names of their copies.

    Raises PeftrefError `no-peer`.
    """
    peer = peer_of(technique)
    return {
        _key(peer, copy): leaves[copy.name]
        for copy in copies(technique, placements(technique, host))
        if copy.leaf.name in peer.keys
    }


def _key(peer: Peer, copy: Copy) -> str:
    return f"{PREFIX}{copy.sites[0].path}.{peer.keys[copy.leaf.name]}"


def _slots(words: tuple[str, ...]) -> set[str]:
    return {slot for word in words for slot in slots_of(word)}


def _sliced(ports: Mapping[str, Any]) -> bool:
    port = ports.get("h")
    return port is not None and port.rows is not None
