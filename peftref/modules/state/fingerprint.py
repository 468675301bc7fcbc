"""The fingerprint of a host: its architecture, its sizes, and a digest of its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import torch
from torch import Tensor

from peftref.host.host import Host
from peftref.modules.state.record import Fingerprint
from peftref.modules.state.sharded import whole

SAMPLES = 64


def fingerprint(host: Host, tensors: Iterable[tuple[str, Tensor]]) -> Fingerprint:
    """The fingerprint of a resolved host; tensors: the backbone's own, by name."""
    stacks = [[stack.name, stack.n_layers, stack.causal, sorted(stack.sizes.items())] for stack in host.stacks]
    sites = [[site.name, sorted(site.sizes.items()), sorted(site.lacks)] for site in host.sites if site.slot != "head"]
    text = json.dumps([stacks, sites], sort_keys=True)
    return Fingerprint(
        name=host.name,
        model_type=host.model_type,
        parameters=host.parameters,
        architecture=hashlib.sha256(text.encode()).hexdigest()[:16],
        weights=weights_digest(tensors),
    )


def weights_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """The digest of some tensors, in the order of their names; empty where one of them has no numbers yet (a `meta` tensor).

    >>> weights_digest([("a", torch.ones(3))]) == weights_digest([("a", torch.ones(3, dtype=torch.bfloat16))])
    True
    """
    total = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda each: each[0]):
        if tensor.is_meta:
            return ""
        flat = whole(tensor.detach()).reshape(-1)
        chosen = flat[:: max(1, flat.numel() // SAMPLES)][:SAMPLES]
        total.update(f"{name} {list(tensor.shape)}".encode())
        total.update(chosen.to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes())
    return total.hexdigest()[:16]
