"""Whether a module of peft is the one that stands here: on the same modules, sharing the same tensors, with the same outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from peftref.core.problem import Problem, fail
from peftref.design.placement import Copy, placements
from peftref.design.technique import Technique
from peftref.host.host import Host
from peftref.host.site import Site
from peftref.modules.attached import Attached

if TYPE_CHECKING:
    from peft import PeftModel

NEAR = 1e-4
"""How far outputs may be apart, as a share of the largest: what is decomposed twice in single precision comes nearer."""


def refuse_others(technique: Technique, host: Host, theirs: PeftModel) -> None:
    """Raises PeftrefError `peer-targets` where peft stands on a module on which the technique does not, or the other way round."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if not getattr(theirs, "targeted_module_names", ()):
        return
    there = {name for name, each in theirs.base_model.model.named_modules() if isinstance(each, BaseTunerLayer)}
    here = {each.site.path for each in placements(technique, host)}
    if more := sorted(there - here):
        raise fail("peer-targets", f"peft stands on {more[0]} too, where {technique.name} does not")
    if less := sorted(here - there):
        raise fail("peer-targets", f"peft does not stand on {less[0]}, where {technique.name} does")


def unshared(keys: Mapping[str, Copy], like: Mapping[str, Tensor]) -> Iterator[Problem]:
    """Where modules share a tensor here and have one each in peft, or the other way round."""
    first: dict[str, str] = {}
    owner: dict[int, str] = {}
    for key, copy in keys.items():
        if key not in like:
            continue
        place = like[key].data_ptr()
        before = first.setdefault(copy.name, key)
        if like[before].data_ptr() != place:
            yield Problem("peer-differs", f"{before} and {key} are one leaf here, and in peft they are two tensors")
        if owner.setdefault(place, copy.name) != copy.name:
            yield Problem("peer-differs", f"{key} is in peft the tensor of other modules too, and here it is their own")


@torch.no_grad()
def unlike(attached: Attached, theirs: PeftModel) -> Iterator[Problem]:
    """Where a module of peft gives other outputs than the one attached, on random inputs of each site."""
    modules, inserted = attached.modules, attached.module
    active, training = modules.active, inserted.training
    modules.active = (attached.name,)
    inserted.eval()
    theirs.eval()
    try:
        for placement in inserted.placed:
            site = placement.site
            x = _input(site, attached.model.get_submodule(site.path))
            here, there = (model.get_submodule(site.path)(x) for model in (attached.model, theirs.base_model.model))
            apart = float((here - there).abs().max() / there.abs().max().clamp_min(1e-12))
            if not apart <= NEAR:
                text = (
                    f"peft makes another change of {site.name} of its own: outputs are {apart:.0e} of the largest apart"
                )
                yield Problem("peer-differs", text)
    finally:
        modules.active = active
        inserted.train(training)


def _input(site: Site, module: Any) -> Tensor:
    if site.form == "table":
        return torch.arange(min(8, site.sizes["d_in"]), device=module.weight.device)[None]
    drawn = torch.randn(1, 4, site.sizes["d_in"], generator=torch.Generator().manual_seed(0))
    return drawn.to(module.weight)
