"""A module's tensors as those of the technique that a peer keeps it as: what the equation makes of the leaves, computed once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from peftref.analyse.fold import fold
from peftref.design.insertion import insertions
from peftref.design.load import load
from peftref.design.placement import copy_name, numbers, placements
from peftref.design.technique import Technique
from peftref.host.host import Host
from peftref.modules.compile.oracle import Oracle


def kept_as(technique: Technique, name: str) -> Technique:
    """The technique of a name with the settings that it has in common with another, at the places of that one.

    >>> found = kept_as(load("p_tuning", tokens=5), "prompt")
    >>> found.name, found.settings["tokens"]
    ('prompt', 5)
    """
    found = load(name)
    common = {key: value for key, value in technique.settings.items() if key in found.settings}
    places = [{"at": each.at, "layers": each.layers, "stacks": each.stacks} for each in technique.insert]
    inserts = tuple(one.model_copy(update=place) for one, place in zip(found.insert, places, strict=True))
    return found.with_settings(**common).model_copy(update={"insert": inserts})


def folded(technique: Technique, into: Technique, host: Host, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The leaves of the technique that another is kept as, by the names of their copies; computed in double precision.

    leaves: of the other, by the names of their copies. Raises PeftrefError `no-peer` where it is not the same equation.
    """
    parts, order = fold(technique, into), insertions(technique)
    found: dict[str, Tensor] = {}
    for here, there in zip(placements(technique, host), placements(into, host), strict=True):
        own = {leaf.name: leaves[copy_name(leaf, here.site)] for leaf in here.leaves}
        values = {name: value.detach().cpu().double().numpy() for name, value in own.items()}
        oracle = Oracle(here.effect.scope, {**numbers(here.site, technique.settings), **values})
        made = parts[order.index(here.insertion)][here.site.slot]
        like = next(iter(own.values()))
        for leaf in there.leaves:
            value = oracle.evaluate(made[leaf.name])
            found[copy_name(leaf, there.site)] = torch.as_tensor(value).to(like.device, like.dtype)
    return found
