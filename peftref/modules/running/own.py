"""What a module of the host owns: its weight as a matrix, its bias, its gain; read, and written when something is merged."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from peftref.host.site import Rows, Site
from peftref.modules.running.linear_map import FORMS
from peftref.modules.running.rows import put, take
from peftref.modules.running.stored import plain


class Own:
    """What a module of the host owns, for the length of one call: a weight kept in few bits is made plain once at most."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self._weight: Tensor | None = None  # a cached_property has a lock, at which a graph of torch would break

    @property
    def weight(self) -> Tensor:
        """The weight as the module stores it, in the host's precision."""
        if self._weight is None:
            self._weight = plain(self.module)
        return self._weight

    def forget(self) -> None:
        """Reads the weight again at the next call."""
        self._weight = None

    def quantity(self, name: str, site: Site) -> Tensor:
        """A quantity in the reference layout: W [d_out, d_in], E [vocab, d_model], b and g; a bias that is not there is 0."""
        if name in ("g", "E"):
            return self.weight
        rows = _rows(site)
        if name == "W":
            matrix = FORMS[site.form].matrix(self.weight, site.sizes["d_in"])
            return matrix if rows is None else take(matrix.T, rows).T
        bias = getattr(self.module, "bias", None)
        if not isinstance(bias, Tensor):
            like = self.module.weight if self.module.weight.is_floating_point() else self.weight
            assert isinstance(like, Tensor)
            return torch.zeros(site.sizes.get("d_out", like.shape[0]), dtype=like.dtype, device=like.device)
        return bias if rows is None else take(bias, rows)


def with_quantity(name: str, site: Site, module: Any, value: Tensor) -> Tensor:
    """What the parameter that holds a quantity is when the quantity, in the reference layout, is the value given.

    The rows of other slots stay; nothing is written.
    """
    parameter = module.weight if name in ("W", "g", "E") else module.bias
    assert isinstance(parameter, Tensor)
    rows = _rows(site) if site.kind == "linear" else None
    if name != "W":
        return value if rows is None else put(parameter, rows, value)
    form = FORMS[site.form]
    whole = value if rows is None else put(form.matrix(parameter, site.sizes["d_in"]).T, rows, value.T).T
    return form.stored(whole, parameter)


def _rows(site: Site) -> Rows | None:
    return site.ports["h"].rows if "h" in site.ports else None
