"""Merging: rules carried out on copies of the host's weights, and written into the host with one rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from peftref.core.problem import fail
from peftref.design.placement import copy_name, numbers
from peftref.language.expr import Name
from peftref.modules.compile.module import Inserted, load_class
from peftref.modules.compile.site_source import value_source
from peftref.modules.folds import Fold, folds
from peftref.modules.running.bare import module_at, parameter_name
from peftref.modules.running.own import Own, put_quantity
from peftref.modules.running.stored import is_plain, plain
from peftref.modules.tie import Ties, uses

STAGES: Mapping[str, int] = {"linear": 0, "norm": 0, "sequence": 0, "activation": 1, "sublayer": 2}
"""In which order changes at different slots go into one weight: its own map first, then what enters it and what is made of it."""


class Merging:
    """Rules carried out on copies of the host's weights, in single precision at least; written into the host at the end, rounded once.

    changed: the host's parameters that change, by name: where the module is that owns each, and what it calls it.
    """

    def __init__(self, model: nn.Module, combine: str = "stack") -> None:
        self.model = model
        self.combine = combine
        self.folds: list[tuple[Fold, Inserted]] = []
        self.copies: dict[str, Copied] = {}
        self.changed: dict[str, tuple[str, str]] = {}

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
        self.folds += [(fold, inserted) for fold in found]

    @torch.no_grad()
    def carry_out(self) -> None:
        """Carries out the rules: at each site one on the result of the other, or the sum of what each makes of the host's weight."""
        for path in dict.fromkeys(fold.site.path for fold, _ in self.folds):
            at_path = [each for each in self.folds if each[0].site.path == path]
            copied = self.copies[path] = Copied(module_at(self.model, path))
            sites = dict.fromkeys(fold.placement.site for fold, _ in at_path)
            for site in sorted(sites, key=lambda each: STAGES[each.kind]):
                self._site(copied, [each for each in at_path if each[0].placement.site == site])
            owned = dict.fromkeys(name for fold, _ in at_path for name in fold.parameters)
            self.changed |= {parameter_name(self.model, path, name): (path, name) for name in owned}

    def _site(self, copied: Copied, here: list[tuple[Fold, Inserted]]) -> None:
        before = dict(vars(copied))
        added: dict[str, list[Tensor]] = {name: [] for name, value in before.items() if value is not None}
        for fold, inserted in here:
            if self.combine == "sum":
                vars(copied).update({name: before[name].clone() for name in added})
            for name, value in _values(fold, inserted, copied).items():
                put_quantity(name, fold.site, copied, value)
            for name, changes in added.items():
                changes.append(getattr(copied, name) - before[name])
        if self.combine == "sum":
            vars(copied).update({name: sum(changes, start=before[name]) for name, changes in added.items()})

    def write(self, keep: Callable[[str], None], ties: Ties, untie: bool) -> None:
        """Writes what has changed. keep: called with the name of each parameter before it changes.

        A tied weight takes in a change that all its uses agree on. Where they do not, the uses that change get weights of their own
        if untie; else this raises PeftrefError `tied-weight`, before anything is written.
        """
        self.carry_out()
        apart = self.apart()
        if apart and not untie:
            name = next(iter(apart))
            others = ", ".join(other for other in uses(self.model)[name] if other != name)
            hint = "merge(untie=True) gives it a weight of its own; or adapt every use alike, by leaves that they share"
            raise fail("tied-weight", f"{name} would change, and it is one weight with {others}", hint=hint)
        written: set[int] = set()
        for name in self.changed:
            parameter = self.model.get_parameter(name)
            if name in apart:
                ties.untie(self.model, name, self._value(name))
            elif id(parameter) not in written:
                written.add(id(parameter))
                keep(name)
                with torch.no_grad():
                    parameter.copy_(self._value(name))
        ties.tell(self.model)

    def apart(self) -> tuple[str, ...]:
        """The changed uses of tied weights that do not all agree."""
        found: dict[str, None] = {}
        for names in dict.fromkeys(uses(self.model)[name] for name in self.changed):
            if len(names) > 1 and not (all(name in self.changed for name in names) and self._agree(names)):
                found |= {name: None for name in names if name in self.changed}
        return tuple(found)

    def _agree(self, names: tuple[str, ...]) -> bool:
        first, *others = (self._value(name) for name in names)
        near = 1e-5 * float(first.abs().max())
        return all(torch.allclose(first, other, rtol=1e-4, atol=near) for other in others)

    def _value(self, name: str) -> Tensor:
        path, own = self.changed[name]
        value: Tensor = getattr(self.copies[path], own)
        return value.reshape(self.model.get_parameter(name).shape)


class Copied:
    """The weight and bias of a module, copied in single precision at least."""

    def __init__(self, module: nn.Module) -> None:
        self.weight = _exact(plain(module)).clone()
        bias = getattr(module, "bias", None)
        self.bias = _exact(bias).clone() if isinstance(bias, Tensor) else None


def _values(fold: Fold, inserted: Inserted, copied: Copied) -> dict[str, Tensor]:
    placement, settings = fold.placement, inserted.technique.settings
    sizes = {**numbers(placement.site, settings), **numbers(fold.site, settings)}
    values = {name: value for name, value in fold.values.items() if value != Name(name)}
    source = value_source("Merged", placement.insertion, fold.rule.scope, values, sizes)
    leaves = {
        leaf: _exact(inserted.leaf(copy_name(placement.insertion.leaves[leaf], placement.site)))
        for leaf in source.leaves
    }
    own = Own(copied)
    given = [own.quantity(name, fold.site) for name in source.reads]
    result = load_class(source)(**leaves).eval()(*given)
    return dict(zip(source.gives, result if isinstance(result, tuple) else (result,), strict=True))


def _exact(value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    return value.detach().to(torch.promote_types(value.dtype, torch.float32))
