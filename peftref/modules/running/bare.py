"""A parameter with which a module of the host multiplies by itself, seen as a linear map of its own, so that a tap can stand there.

Nothing of the host is replaced: while something changes the map, and while the module that owns the parameter runs, each of torch's
functions that is a product with it becomes a call of the map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from peftref.host.observe.bare import Product, Products
from peftref.modules.running.override import Override, Standing

ATTRIBUTE = "peftref_bare"


class Bare(Standing):
    """A bare parameter as a linear map without bias, which owns nothing: its weight is a view, its first axis against the others.

    owner: the module that has the parameter under this name.
    """

    owner: nn.Module

    def __init__(self, owner: nn.Module, name: str) -> None:
        super().__init__()
        self.__dict__["owner"] = owner  # as a submodule it would own what it shows
        self.name = name

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter itself, which others may have put in the place of the first one."""
        found = self.owner._parameters[self.name]
        assert found is not None
        return found

    @property
    def weight(self) -> Tensor:
        """The parameter as a matrix, [first axis, all others]."""
        return self.parameter.flatten(1)

    def named_parameters(self, *_: Any, **__: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameter, as the weight of this map."""
        yield "weight", self.parameter

    def forward(self, rows: Tensor, times: Callable[[Tensor], Tensor]) -> Tensor:
        """The product with rows [..., d_in]: [..., d_out]. times: what the owner would do with the rows."""
        return times(rows)

    def product(self, product: Product) -> Tensor:
        """What the map makes of the last axes of x, with the axes that the owner expects; bit by bit its own where nothing acts."""
        x, shape = product.x, self.parameter.shape
        entering = x.shape[-product.axes :]
        leaving = shape[1:] if product.form == "transposed" else shape[:1]

        def times(rows: Tensor) -> Tensor:
            made = product.times(rows.reshape(*rows.shape[:-1], *entering), self.parameter)
            return made.flatten(-len(leaving))

        made: Tensor = self(x.flatten(-len(entering)), times)
        return made.reshape(*made.shape[:-1], *leaving)

    def begin(self) -> None:
        """Takes the place of products with the parameter."""
        found = self.owner.__dict__.get(ATTRIBUTE) or _Within(self.owner)
        found.maps[self.name] = self

    def end(self) -> None:
        """Leaves them to the owner for good."""
        found: _Within = self.owner.__dict__[ATTRIBUTE]
        del found.maps[self.name]
        if not found.maps:
            found.remove()


class _Within:
    """The maps of one module's parameters, while the module runs."""

    def __init__(self, owner: nn.Module) -> None:
        self.owner = owner
        self.maps: dict[str, Bare] = {}
        self.override = Override(owner, self._forward, first=True)
        owner.__dict__[ATTRIBUTE] = self

    def remove(self) -> None:
        """Leaves the module as it was."""
        self.override.remove()
        del self.owner.__dict__[ATTRIBUTE]

    def _forward(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with Products(self._told):
            return original(*args, **kwargs)

    def _told(self, product: Product, make: Callable[[], Tensor]) -> Tensor:
        for each in self.maps.values():
            if product.weight is each.parameter:
                return each.product(product)
        return make()


def module_at(model: nn.Module, path: str) -> Any:
    """The module at a site's path: a submodule, or the linear map that a bare parameter is.

    >>> owner = nn.Module()
    >>> owner.q = nn.Parameter(Tensor(8, 2, 4))
    >>> module_at(nn.ModuleDict({"attention": owner}), "attention.q").weight.shape
    torch.Size([8, 8])
    """
    above, _, name = path.rpartition(".")
    owner = model.get_submodule(above)
    if name not in owner._parameters:
        return model.get_submodule(path)
    within: _Within | None = owner.__dict__.get(ATTRIBUTE)
    known = within.maps.get(name) if within else None
    return known or Bare(owner, name)


def parameter_name(model: nn.Module, path: str, own: str) -> str:
    """The name in the model of what the module at a path calls its own: `q` is the weight of the map at `q`."""
    return path if isinstance(module_at(model, path), Bare) else f"{path}.{own}"
