"""Products of a value with a parameter that a module multiplies with by itself, as torch's functions are called for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from peftref.host.architecture import Form

MATMULS = frozenset((torch.matmul, Tensor.matmul, Tensor.__matmul__))


@dataclass(frozen=True, slots=True)
class Product:
    """A value times a parameter, as a linear map of the value's last axes.

    axes: how many axes of x the map reads. form: `transposed` where the first axis of the parameter is what is read, `matrix` where
    it is what comes out; the other axes of the parameter are the other side. times: torch's function of a value and a parameter.
    """

    x: Tensor
    weight: Any
    axes: int
    form: Form
    times: Callable[..., Tensor]


def product_of(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Product | None:
    """The product that a call of one of torch's functions is; None for whatever is no linear map with the second operand.

    >>> x, weight = torch.ones(5, 2, 8), torch.ones(8, 2, 4)
    >>> made = product_of(torch.einsum, ("ibh,hnd->ibnd", x, weight), {})
    >>> made.axes, made.form
    (1, 'transposed')
    >>> made = product_of(torch.einsum, ("ibnd,hnd->ibh", torch.ones(5, 2, 2, 4), weight), {})
    >>> made.axes, made.form
    (2, 'matrix')
    >>> product_of(torch.einsum, ("ibh,bnh->ibn", x, weight), {}) is None
    True
    """
    if kwargs:
        return None
    if func is torch.einsum and len(args) == 3 and isinstance(args[0], str):
        found = _mapped(args[0].replace(" ", ""))
        return None if found is None else Product(args[1], args[2], *found, partial(func, args[0]))
    if func is F.linear and len(args) == 2 and args[1].ndim == 2:
        return Product(args[0], args[1], 1, "matrix", func)
    if func in MATMULS and len(args) == 2 and args[1].ndim == 2:
        return Product(args[0], args[1], 1, "transposed", func)
    return None


def _mapped(equation: str) -> tuple[int, Form] | None:
    """How many axes an equation of einsum reads as a linear map, and on which side of it the weight's first axis is."""
    left, arrow, out = equation.partition("->")
    x, comma, weight = left.partition(",")
    if not (arrow and comma) or not all(map(_plain, (x, weight, out))):
        return None
    for form, read, made in (("transposed", weight[:1], weight[1:]), ("matrix", weight[1:], weight[:1])):
        kept = x.removesuffix(read)
        if read and made and kept != x and out == kept + made and not set(kept) & set(weight):
            return len(read), form  # type: ignore[return-value]  # one of two literals
    return None


def _plain(axes: str) -> bool:
    return axes.isalpha() and len(set(axes)) == len(axes)


class Products(TorchFunctionMode):
    """While it is active, `told` is given each product, and what it makes before others read it."""

    def __init__(self, told: Callable[[Product, Callable[[], Tensor]], Tensor]) -> None:
        super().__init__()
        self._told = told

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        product = product_of(func, args, kwargs)
        if product is None:
            return func(*args, **kwargs)
        return self._told(product, partial(func, *args))
