"""A parameter with which a module of the host multiplies by itself, seen as a linear map of its own, so that a tap can stand there.

While something changes the map, and while the module that owns the parameter runs, a stand-in is in the parameter's place: torch's
own functions ask it what a product with it is. At all other times, and for everything but products, the host has its parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from peftref.host.bare import Product, product_of
from peftref.running.override import Override, Standing

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
        self.training = owner.training
        self.override: Override | None = None

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

    def begin(self) -> None:
        """Stands in for the parameter whenever its owner runs."""
        self.owner.__dict__.setdefault(ATTRIBUTE, {})[self.name] = self
        self.override = Override(self.owner, self._within, first=True)

    def end(self) -> None:
        """Gives the owner its parameter back for good."""
        assert self.override is not None
        self.override.remove()
        standing = self.owner.__dict__[ATTRIBUTE]
        del standing[self.name]
        if not standing:
            del self.owner.__dict__[ATTRIBUTE]

    def _within(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.owner.__dict__[self.name] = _StandIn(self)
        try:
            return original(*args, **kwargs)
        finally:
            del self.owner.__dict__[self.name]


class _StandIn:
    """In the place of a parameter: a product with it is a call of its map, everything else is the parameter's own."""

    def __init__(self, bare: Bare) -> None:
        self.bare = bare

    def product(self, product: Product) -> Tensor:
        """What the map makes of the last axes of x, with the axes that the owner expects; bit by bit its own where nothing acts."""
        x, shape = product.x, self.bare.parameter.shape
        entering = x.shape[-product.axes :]
        leaving = shape[1:] if product.form == "transposed" else shape[:1]
        given = x.flatten(-len(entering))
        own: list[Tensor] = []

        def times(rows: Tensor) -> Tensor:
            read = x if rows is given else rows.reshape(*rows.shape[:-1], *entering)
            whole = product.times(read, self.bare.parameter)
            own[:] = whole, whole.flatten(-len(leaving))
            return own[1]

        made: Tensor = self.bare(given, times)
        return own[0] if own and made is own[1] else made.reshape(*made.shape[:-1], *leaving)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What torch calls for a function that gets one of these."""
        given = kwargs or {}
        product = product_of(func, args, given)
        if product is not None and isinstance(product.weight, _StandIn) and isinstance(product.x, Tensor):
            return product.weight.product(product)
        return func(*map(_own, args), **{name: _own(value) for name, value in given.items()})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        own = self.bare.parameter
        found = getattr(own, name)
        if not callable(found):
            return found

        def called(*args: Any, **kwargs: Any) -> Any:
            made = found(*args, **kwargs)
            return self if made is own else made

        return called


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
    standing: dict[str, Bare] = owner.__dict__.get(ATTRIBUTE, {})
    return standing.get(name) or Bare(owner, name)


def parameter_name(model: nn.Module, path: str, own: str) -> str:
    """The name in the model of what the module at a path calls its own: `q` is the weight of the map at `q`."""
    return path if isinstance(module_at(model, path), Bare) else f"{path}.{own}"


def _own(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_own, value))
    return value.bare.parameter if isinstance(value, _StandIn) else value
