"""Merging: the rule of each site carried out on the host's own weights, in single precision at least."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftref.analyse.merge import Blocked, Merge, merge_rule
from peftref.compile.module import Inserted, load_class
from peftref.compile.run import put_quantity, quantity
from peftref.compile.site_source import value_source
from peftref.design.placement import Placement, copy_name, numbers
from peftref.host.host import Host
from peftref.host.site import Site
from peftref.lang.expr import Expr, Name, Number, substitute
from peftref.problem import fail
from peftref.rewrite.optimise import simplify

OWNER = {"W": "weight", "g": "weight", "E": "weight", "b": "bias"}


@dataclass(frozen=True)
class Fold:
    """One placement and the site whose weights take it in: the values that they get."""

    placement: Placement
    site: Site
    rule: Merge
    values: Mapping[str, Expr]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The host's parameters that change."""
        return tuple(dict.fromkeys(f"{self.site.path}.{OWNER[name]}" for name in self.values))


def folds(model: nn.Module, inserted: Inserted) -> tuple[Fold, ...]:
    """How every placement of a technique merges into a host; raises PeftrefError `not-mergeable` with every reason."""
    host = inserted.host
    sites = {site.name: site for site in host.sites}
    owners: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    found: list[Fold] = []
    reasons: dict[str, None] = {}
    for placement in inserted.placed:
        fold = _fold(placement, host, sites)
        if isinstance(fold, Fold):
            shared = [name for name in fold.parameters if owners[id(model.get_parameter(name))] > 1]
            found.append(fold)
            reasons |= {f"{name} is tied to another weight of {host.name}": None for name in shared}
        else:
            reasons[f"at {fold.slot}: {fold.show()}"] = None
    if reasons:
        raise fail("not-mergeable", f"{inserted.technique.name} does not merge into {host.name}", notes=reasons)
    return tuple(found)


def _fold(placement: Placement, host: Host, sites: Mapping[str, Site]) -> Fold | Blocked:
    rule = merge_rule(placement.insertion, placement.effect)
    if isinstance(rule, Blocked):
        return rule
    site = placement.site
    into = sites.get(site.name.removesuffix(site.slot) + rule.into)
    if into is None:
        return Blocked(site.slot, f"{host.name} has no {rule.into} of its own there")
    if site.kind == "sublayer" and site.name + ".post_norm" in sites:
        return Blocked(site.slot, f"a norm stands between {rule.into} and the end of the sublayer in {host.name}")
    values = dict(rule.values)
    if site.kind == "norm" and "h" not in placement.effect.values:
        values = {name: value for name, value in values.items() if name not in into.lacks}
    for name in set(values) & into.lacks:
        left = simplify(substitute(values.pop(name), {name: Number(0)}))
        if left != Number(0):
            return Blocked(site.slot, f"needs a bias at {rule.into}, and {host.name} has none there", left)
    return Fold(placement, into, rule, values)


@torch.no_grad()
def merge_into(model: nn.Module, inserted: Inserted, keep: Callable[[str], None]) -> None:
    """Carries out the rule of every site. keep: called with the name of each parameter before it changes."""
    for fold in folds(model, inserted):
        for name in fold.parameters:
            keep(name)
        module = model.get_submodule(fold.site.path)
        for name, value in _values(fold, inserted, module).items():
            put_quantity(name, fold.site, module, value)


def _values(fold: Fold, inserted: Inserted, module: nn.Module) -> dict[str, Tensor]:
    placement, settings = fold.placement, inserted.technique.settings
    sizes = {**numbers(placement.site, settings), **numbers(fold.site, settings)}
    values = {name: value for name, value in fold.values.items() if value != Name(name)}
    source = value_source("Merged", placement.insertion, fold.rule.scope, values, sizes)
    leaves = {
        leaf: _exact(inserted.leaf(copy_name(placement.insertion.leaves[leaf], placement.site)))
        for leaf in source.leaves
    }
    given = [_exact(quantity(name, fold.site, module)) for name in source.reads]
    result = load_class(source)(**leaves).eval()(*given)
    return dict(zip(source.gives, result if isinstance(result, tuple) else (result,), strict=True))


def _exact(value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    return value.detach().to(torch.promote_types(value.dtype, torch.float32))
