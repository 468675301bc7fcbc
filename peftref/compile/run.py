"""A run: the module of a technique at one site, called with the quantities that it reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from peftref.compile.keep import Keep
from peftref.compile.rows import put, take
from peftref.host.site import Site


class Run:
    """The module of a technique at a site, called with the quantities that it reads.

    siblings: the sites of the same layer whose own quantities it reads, with their modules, by slot. alone: the run to take in
    its place where nothing else acts at the site, and numbers are precise enough to add a small change to a weight.
    """

    def __init__(
        self,
        forward: nn.Module,
        reads: tuple[str, ...],
        gives: tuple[str, ...],
        leaf: Tensor | None = None,
        alone: Run | None = None,
    ) -> None:
        self.forward = forward
        self.reads = reads
        self.gives = gives
        self.leaf = leaf
        self.alone = alone
        self.siblings: dict[str, tuple[Site, nn.Module]] = {}

    def best(self, module: nn.Module) -> Run:
        """The run to take at a module where nothing else acts."""
        weight = module.weight
        if self.alone is None or not isinstance(weight, nn.Parameter) or torch.is_autocast_enabled(weight.device.type):
            return self
        precise = weight.dtype in (torch.float32, torch.float64)
        return self.alone if precise and self.leaf is not None and self.leaf.dtype == weight.dtype else self

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

    def __call__(self, site: Site, module: nn.Module, **known: Any) -> dict[str, Tensor]:
        """The replaced quantities, in the host's own dtype."""
        values = [self._value(name, site, module, known) for name in self.reads]
        own = None if self.leaf is None else self.leaf.dtype
        dtype = next((value.dtype for value in values), own)
        if (
            own is not None
            and own != dtype
            and not torch.is_autocast_enabled(values[0].device.type if values else "cpu")
        ):
            values = [value.to(own) for value in values]
        result = self.forward(*values)
        given = result if isinstance(result, tuple) else (result,)
        return {name: value.to(dtype) for name, value in zip(self.gives, given, strict=True)}

    def _value(self, name: str, site: Site, module: nn.Module, known: dict[str, Any]) -> Tensor:
        if name in known:
            value: Tensor = known[name]
            return value
        slot, _, own = name.rpartition(".")
        return quantity(own, *self.siblings[slot]) if slot else quantity(name, site, module)


def quantity(name: str, site: Site, module: nn.Module) -> Tensor:
    """A quantity that the host's module owns, in the reference layout: W [d_out, d_in], b and g; a bias that is not there is 0."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    if name in ("g", "E"):
        return weight
    matrix = weight.T if site.transposed else weight
    rows = site.ports["h"].rows if "h" in site.ports else None
    if name == "W":
        return matrix if rows is None else take(matrix.T, rows).T
    bias = getattr(module, "bias", None)
    if not isinstance(bias, Tensor):
        return torch.zeros(site.sizes.get("d_out", weight.shape[0]), dtype=weight.dtype, device=weight.device)
    return bias if rows is None else take(bias, rows)


@torch.no_grad()
def put_quantity(name: str, site: Site, module: nn.Module, value: Tensor) -> None:
    """Writes a quantity that the host's module owns, given in the reference layout; the rows of other slots stay."""
    parameter = module.weight if name in ("W", "g", "E") else module.bias
    assert isinstance(parameter, Tensor)
    rows = site.ports["h"].rows if "h" in site.ports and site.kind == "linear" else None
    if name == "W" and site.transposed:
        parameter.copy_(value.T if rows is None else put(parameter, rows, value.T))
    elif name == "W":
        parameter.copy_(value if rows is None else put(parameter.T, rows, value.T).T)
    else:
        parameter.copy_(value if rows is None else put(parameter, rows, value))
