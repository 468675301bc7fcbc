"""The values that the leaves of a technique begin with on a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from peftref.design.inits import INITS
from peftref.design.placement import Copy
from peftref.host.site import Site
from peftref.modules.attached import Attached
from peftref.modules.compile.decompose import Decompositions
from peftref.modules.compile.module import Inserted, initialise
from peftref.modules.running.bare import module_at
from peftref.modules.running.own import Own


@torch.no_grad()
def put_leaves(attached: Attached, values: Mapping[str, Tensor]) -> None:
    """Gives leaves their values, by the names of their copies; those that begin from other leaves begin again from these."""
    module = attached.module
    for name, value in values.items():
        module.leaf(name).copy_(value)
    for copy in module.copies:
        if copy.name not in values and _leaves(copy, module):
            _begin(attached.model, module, copy, 0)


def initialise_leaves(model: nn.Module, inserted: Inserted, seed: int) -> None:
    """Gives every leaf its first value: those that begin from other leaves after these."""
    made = Decompositions()
    for copy in sorted(inserted.copies, key=lambda copy: bool(_leaves(copy, inserted))):
        _begin(model, inserted, copy, seed, made)


def _begin(model: nn.Module, inserted: Inserted, copy: Copy, seed: int, made: Decompositions | None = None) -> None:
    site = copy.sites[0]
    module = module_at(model, site.path)
    given = _quantities(site, module, copy.leaf.init_args) | _leaves(copy, inserted)
    initialise(inserted.leaf(copy.name), copy, inserted.technique.settings, given, seed, made)


def _leaves(copy: Copy, inserted: Inserted) -> dict[str, Tensor]:
    """The other leaves that an init reads: those of the same site, or all copies in a row where the leaf serves every site."""
    row, found = INITS[copy.leaf.init], {}
    for name, value in copy.leaf.init_args:
        parameter = row.parameter(name)
        if parameter is not None and parameter.kind == "leaf":
            same = [other for other in inserted.copies if other.leaf.name == value]
            near = same if copy.leaf.scope == "design" else [other for other in same if copy.sites[0] in other.sites]
            parts = [inserted.leaf(other.name) for other in near]
            found[str(value)] = parts[0] if len(parts) == 1 else torch.cat([part.flatten() for part in parts])
    return found


def _quantities(site: Site, module: nn.Module, init_args: tuple[tuple[str, Any], ...]) -> dict[str, Tensor]:
    wanted = {value for _, value in init_args if isinstance(value, str) and value in ("W", "b", "g", "E")}
    own = Own(module)
    found = {name: own.quantity(name, site) for name in wanted}
    return {name: value.to(torch.promote_types(value.dtype, torch.float32)) for name, value in found.items()}
