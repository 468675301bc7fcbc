"""Merging: rules carried out on the host's weights, site by site, and written into the host with one rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from peftref.core.problem import fail
from peftref.design.placement import copy_name, numbers
from peftref.language.expr import Name
from peftref.modules.compile.module import Inserted, load_class
from peftref.modules.compile.site_source import value_plan
from peftref.modules.folds import OWNER, Fold, folds, stage
from peftref.modules.originals import put_values
from peftref.modules.running.bare import module_at, parameter_name
from peftref.modules.running.own import Own, with_quantity
from peftref.modules.running.stored import is_plain, plain
from peftref.modules.tie import Ties, uses


class Merging:
    """Rules carried out site by site on values in single precision at least, and written into the host, rounded once.

    changed: the host's parameters that change, by name: where the module is that owns each, and what it calls it.
    """

    def __init__(self, model: nn.Module, combine: str = "stack") -> None:
        self.model = model
        self.combine = combine
        self.folds: dict[str, list[tuple[Fold, Inserted]]] = {}
        self.changed: dict[str, tuple[str, str]] = {}
        self.leaves: set[int] = set()

    def add(self, inserted: Inserted) -> None:
        """Takes in a technique, after those before it. Raises PeftrefError `not-mergeable` with every reason, and `few-bits`."""
        found = folds(inserted)
        few = [fold.site for fold in found if not is_plain(module_at(self.model, fold.site.path))]
        if few:
            text = (
                f"{inserted.technique.name} does not merge into {inserted.host.name}: {few[0].name} is kept in few bits"
            )
            hint = "merge it into the host in full precision, restored there with other_weights=True"
            raise fail("few-bits", text, hint=hint)
        for fold in found:
            path = fold.site.path
            self.folds.setdefault(path, []).append((fold, inserted))
            self.changed |= {parameter_name(self.model, path, name): (path, name) for name in fold.parameters}
        self.leaves |= {each.untyped_storage().data_ptr() for each in (*inserted.parameters(), *inserted.buffers())}

    @torch.no_grad()
    def values(self, path: str) -> Values:
        """What the parameters of a module become: at each site one on the result of the other, or the sum of their changes."""
        found = Values.of(module_at(self.model, path))
        sites = {fold.placement.site: stage(fold.placement) for fold, _ in self.folds[path]}
        for site in sorted(sites, key=lambda each: sites[each]):
            here = [each for each in self.folds[path] if each[0].placement.site == site]
            found = self._site(
                found, here[::-1] if sites[site] == 1 else here
            )  # what enters last is nearest to the weight
        return found

    def _site(self, before: Values, here: list[tuple[Fold, Inserted]]) -> Values:
        at_core = (
            here[0][0].placement.site.kind == "core"
        )  # what acts there follows one another, also where others are summed
        if self.combine == "stack" or at_core or len(here) == 1:
            for fold, inserted in here:
                before = before.changed(fold, inserted)
            return before
        total = before
        for fold, inserted in here:
            total = total.plus(before.changed(fold, inserted), before)
        return total

    @torch.no_grad()
    def refuse(self, untie: bool, sure: bool = False) -> tuple[str, ...]:
        """Raises PeftrefError for what only the values show, before anything is written; gives the uses of tied weights that part.

        A tied weight takes in a change that all its uses agree on. Where they do not, the uses that change get weights of their own
        if untie; else this raises `tied-weight`. sure: what a convolution in groups cannot take in is looked for now too.
        """
        for path in self.folds if sure else ():
            if module_at(self.model, path).weight.dim() > 2:
                self.values(path)
        apart = self.apart()
        if apart and not untie:
            others = ", ".join(other for other in uses(self.model)[apart[0]] if other != apart[0])
            hint = "merge(untie=True) gives it a weight of its own; or adapt every use alike, by leaves that they share"
            raise fail("tied-weight", f"{apart[0]} would change, and it is one weight with {others}", hint=hint)
        return apart

    @torch.no_grad()
    def write(self, keep: Callable[[str], None], ties: Ties, untie: bool) -> None:
        """Writes what changes, the largest weights first. keep: called with the name of each parameter before it changes.

        Raises PeftrefError as `refuse` does, before anything is written.
        """
        apart = self.refuse(untie)
        written: set[int] = set()
        for path in sorted(self.folds, key=lambda each: -module_at(self.model, each).weight.numel()):
            own = {name: each for name, (where, each) in self.changed.items() if where == path}
            if all(id(self.model.get_parameter(name)) in written and name not in apart for name in own):
                continue
            values = self.values(path)
            for name, each in own.items():
                parameter = self.model.get_parameter(name)
                value: Tensor = getattr(values, each)
                if name in apart:
                    ties.untie(self.model, name, value.reshape(parameter.shape))
                elif id(parameter) not in written:
                    written.add(id(parameter))
                    keep(name)
                    put_values(parameter, value, ours=self._ours(value, parameter))
        ties.tell(self.model)

    def _ours(self, value: Tensor, parameter: Tensor) -> bool:
        place = value.untyped_storage().data_ptr()
        return place not in self.leaves and place != parameter.untyped_storage().data_ptr()

    @torch.no_grad()
    def apart(self) -> tuple[str, ...]:
        """The changed uses of tied weights that do not all agree."""
        found: dict[str, None] = {}
        tied = uses(self.model)
        for names in dict.fromkeys(tied[name] for name in self.changed):
            if len(names) > 1 and not (all(name in self.changed for name in names) and self._agree(names)):
                found |= {name: None for name in names if name in self.changed}
        return tuple(found)

    def _agree(self, names: tuple[str, ...]) -> bool:
        first, *others = names
        value = self._value(first)
        near = 1e-5 * float(value.abs().max())
        return all(torch.allclose(value, self._value(other), rtol=1e-4, atol=near) for other in others)

    def _value(self, name: str) -> Tensor:
        path, own = self.changed[name]
        value: Tensor = getattr(self.values(path), own)
        return value.reshape(self.model.get_parameter(name).shape)


@dataclass(frozen=True, slots=True)
class Values:
    """The weight and bias of a module in single precision at least; what is changed is a tensor of its own."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, module: Any) -> Values:
        """As the host has them."""
        bias = getattr(module, "bias", None)
        return cls(_exact(plain(module)), _exact(bias) if isinstance(bias, Tensor) else None)

    def changed(self, fold: Fold, inserted: Inserted) -> Values:
        """As one rule of a technique changes them."""
        found = self
        for name, value in _made(fold, inserted, self).items():
            found = replace(found, **{OWNER[name]: with_quantity(name, fold.site, found, value)})
        return found

    def plus(self, other: Values, before: Values) -> Values:
        """With the change added that leads to others from what was before."""

        def summed(own: Tensor, new: Tensor, old: Tensor) -> Tensor:
            return own if new is old else own + (new - old)

        weight = summed(self.weight, other.weight, before.weight)
        if self.bias is None or other.bias is None or before.bias is None:
            return Values(weight, self.bias)
        return Values(weight, summed(self.bias, other.bias, before.bias))


def _made(fold: Fold, inserted: Inserted, owner: Values) -> dict[str, Tensor]:
    """The quantities that a rule gives new values."""
    placement, settings = fold.placement, inserted.technique.settings
    sizes = {**numbers(placement.site, settings), **numbers(fold.site, settings)}
    values = {name: value for name, value in fold.values.items() if value != Name(name)}
    source = value_plan("Merged", placement.insertion, fold.rule.scope, values, sizes).source()
    leaves = {
        leaf: _exact(inserted.leaf(copy_name(placement.insertion.leaves[leaf], placement.site)))
        for leaf in source.leaves
    }
    own = Own(owner)
    given = [own.quantity(name, fold.site) for name in source.reads]
    result = load_class(source)(**leaves).eval()(*given)
    return dict(zip(source.gives, result if isinstance(result, tuple) else (result,), strict=True))


def _exact(value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    return value.detach().to(torch.promote_types(value.dtype, torch.float32))
