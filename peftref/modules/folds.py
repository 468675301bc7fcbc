"""How a technique merges into a host: which of its weights each placement changes, and the values that they get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from peftref.analyse.merge import Blocked, Merge, merge_rule
from peftref.core.problem import fail
from peftref.design.placement import Placement
from peftref.host.host import Host
from peftref.host.site import Site
from peftref.language.expr import Expr, Number, substitute
from peftref.language.rewrite.simplify import simplify
from peftref.modules.compile.module import Inserted

STAGES: Mapping[str, int] = {"linear": 0, "norm": 0, "sequence": 0, "activation": 1, "sublayer": 2}
"""In which order changes at different slots go into one weight: its own map first, then what enters it and what is made of it."""
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
        """The parameters that change, by the names that the site's module has for them."""
        return tuple(dict.fromkeys(OWNER[name] for name in self.values))


def stage(placement: Placement) -> int:
    """When a change goes into the weight that takes it in: 0 for its own map, 1 for what enters it, 2 for what is made of it."""
    if placement.site.kind == "core":
        return 1 if set(placement.values) == {"o"} else 2
    return STAGES[placement.site.kind]


def folds(inserted: Inserted) -> tuple[Fold, ...]:
    """How every placement of a technique merges into a host; raises PeftrefError `not-mergeable` with every reason."""
    host = inserted.host
    sites = {site.name: site for site in host.sites}
    found: list[Fold] = []
    reasons: dict[str, None] = {}
    for placement in inserted.placed:
        fold = _fold(placement, host, sites)
        if isinstance(fold, Fold):
            found.append(fold)
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
    remade = sorted(site.remade & placement.effect.values.keys())
    if remade:
        return Blocked(site.slot, f"{host.name} changes {remade[0]} between {rule.into} and attention itself")
    values = dict(rule.values)
    if site.kind == "norm" and "h" not in placement.effect.values:
        values = {name: value for name, value in values.items() if name not in into.lacks}
    for name in set(values) & into.lacks:
        left = simplify(substitute(values.pop(name), {name: Number(0)}))
        if left != Number(0):
            return Blocked(site.slot, f"needs a bias at {rule.into}, and {host.name} has none there", left)
    return Fold(placement, into, rule, values)
