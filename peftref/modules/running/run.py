"""A run: the module of a technique at one site, called with the quantities that it reads."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from peftref.host.site import Site
from peftref.modules.running.bound import Bound
from peftref.modules.running.carry import Carry
from peftref.modules.running.keep import Keep
from peftref.modules.running.own import Own
from peftref.modules.running.samples import Part
from peftref.modules.running.stored import is_plain


class Run:
    """The module of a technique at a site, called with the quantities that it reads.

    carry: what it reads and sets that is carried from layer to layer. siblings: the sites of the same layer whose own quantities it
    reads, with their modules, by slot. alone: the run to take in its place where nothing else acts at the site, and numbers are
    precise enough to add a small change to a weight. bound: its leaves, as they stand in the technique's tree. stays: whether what it
    puts in front of a sequence is still there for the heads. part: the samples that it acts on, None for all.
    """

    def __init__(
        self,
        forward: nn.Module,
        reads: tuple[str, ...],
        gives: tuple[str, ...],
        alone: Run | None = None,
        carry: Carry | None = None,
        bound: Bound | None = None,
    ) -> None:
        self.forward = forward
        self.reads = reads
        self.gives = gives
        self.alone = alone
        self.carry = carry
        self.bound = bound
        self.stays = False
        self.part: Part | None = None
        self.siblings: dict[str, tuple[Site, nn.Module]] = {}

    @property
    def leaf(self) -> Tensor | None:
        """A leaf, in whose precision it computes."""
        return None if self.bound is None else self.bound.first

    def on(self, part: Part | None) -> Run:
        """The same run for some samples of the batch."""
        found = copy.copy(self)
        found.part = part
        return found

    def best(self, module: nn.Module) -> Run:
        """The run to take at a module where nothing else acts."""
        weight: Any = module.weight
        if self.alone is None or not is_plain(module) or torch.is_autocast_enabled(weight.device.type):
            return self
        precise = weight.dtype in (torch.float32, torch.float64)
        taken = precise and self.leaf is not None and self.leaf.dtype == weight.dtype
        if not taken:
            return self
        return self.alone if self.part is None else self.alone.on(self.part)

    def train(self, mode: bool) -> None:
        """Sets training mode, and drops what was kept of the leaves."""
        for run in (self, *([self.alone] if self.alone else [])):
            run.forward.train(mode)
            for kept in vars(run.forward).values():
                if isinstance(kept, Keep):
                    kept.forget()

    @property
    def replaces_map(self) -> bool:
        """Whether it makes an output of its own from the weight, and does not only change the one that is there."""
        return "h" in self.gives and ("W" in self.reads or "h" not in self.reads)

    def __call__(self, site: Site, own: Own, **known: Any) -> dict[str, Tensor]:
        """The replaced quantities, in the host's own precision; they are computed in that of the leaves."""
        if self.carry is not None:
            return self._carrying(self.carry, site, own, known)
        return self._called(site, own, known)

    def _carrying(self, carry: Carry, site: Site, own: Own, known: dict[str, Any]) -> dict[str, Tensor]:
        """The replaced quantities of the slot; what is carried is read and set beside them."""
        like: Tensor = known["h"]
        dtype = like.dtype if self.leaf is None else self.leaf.dtype
        given = {name: carry.read(name, like, dtype) for name in self.reads if name in carry.shapes}
        made = self._called(site, own, {**known, **given})
        for name in carry.shapes.keys() & made.keys():
            carry.put(name, made.pop(name), like)
        return made

    def _called(self, site: Site, own: Own, known: dict[str, Any]) -> dict[str, Tensor]:
        if self.bound is not None:
            self.bound.renew()
        values = [self._value(name, site, own, known) for name in self.reads]
        precise = None if self.leaf is None else self.leaf.dtype
        dtype = next((value.dtype for value in values), precise)
        if (
            precise is not None
            and precise != dtype
            and not torch.is_autocast_enabled(values[0].device.type if values else "cpu")
        ):
            values = [value.to(precise) for value in values]
        result = self.forward(*values)
        given = result if isinstance(result, tuple) else (result,)
        carried = () if self.carry is None else self.carry.shapes
        replaced = {
            name: precise or dtype if name in carried else getattr(known.get(name), "dtype", dtype)
            for name in self.gives
        }
        return {name: value.to(replaced[name]) for name, value in zip(self.gives, given, strict=True)}

    def _value(self, name: str, site: Site, own: Own, known: dict[str, Any]) -> Tensor:
        if name in known:
            value: Tensor = known[name]
            return value
        slot, _, quantity = name.rpartition(".")
        if not slot:
            return own.quantity(name, site)
        sibling, module = self.siblings[slot]
        return Own(module).quantity(quantity, sibling)


def by_part(runs: list[Run]) -> list[tuple[Part | None, list[Run]]]:
    """The runs at a site by the samples that they act on, in order."""
    found: dict[str | None, tuple[Part | None, list[Run]]] = {}
    for run in runs:
        found.setdefault(run.part.name if run.part else None, (run.part, []))[1].append(run)
    return list(found.values())
