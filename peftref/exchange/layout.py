"""How a leaf lies in a tensor of a peer: axes in another order, one over the layers, one of which the leaf is a part."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

_WORD = re.compile(r"\(([^()]*)\)|(\S+)")
Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Layout:
    """The axes of a tensor in their order, in groups that are one axis there.

    An axis is a number, that axis of the leaf; `layer`, one over the layers; `0/2`, one of 2 where the leaf stands at 0;
    `n+0`, axis 0 behind n others; or `0+n`, in front of them. A size like n is told by its name. An axis of the leaf that
    stands twice is on the diagonal.

    >>> Layout.parse("(layer 0/2 0) 1").groups
    (('layer', '0/2', '0'), ('1',))
    """

    groups: tuple[tuple[str, ...], ...]

    @staticmethod
    def parse(text: str) -> Layout:
        """The layout of a text."""
        found = [match.group(1) or match.group(2) for match in _WORD.finditer(text)]
        return Layout(tuple(tuple(each.split()) for each in found))

    @staticmethod
    def same(axes: int) -> Layout:
        """The layout of a leaf that is the whole tensor."""
        return Layout(tuple((str(axis),) for axis in range(axes)))

    @property
    def layered(self) -> bool:
        """Whether one tensor holds all layers."""
        return any("layer" in group for group in self.groups)

    def alone(self) -> Layout:
        """The same where no other leaf stands before or behind it along an axis.

        >>> Layout.parse("kept+0 1").alone().groups
        (('0',), ('1',))
        """
        return Layout(tuple(tuple(str(_own(axis)) if "+" in axis else axis for axis in group) for group in self.groups))

    def shape(self, leaf: tuple[int, ...], layers: int, sizes: Sizes | None = None) -> tuple[int, ...]:
        """The shape of the tensor."""
        return tuple(math.prod(self._sizes(group, leaf, layers, sizes or {})) for group in self.groups)

    def take(
        self, tensor: Tensor, leaf: tuple[int, ...], layer: int, layers: int, sizes: Sizes | None = None
    ) -> Tensor:
        """The leaf of a layer out of the tensor, as a view.

        >>> import torch
        >>> Layout.parse("1 0").take(torch.arange(6).reshape(2, 3), (3, 2), 0, 1).tolist()
        [[0, 3], [1, 4], [2, 5]]
        >>> Layout.parse("n+0").take(torch.arange(5), (3,), 0, 1, {"n": 2}).tolist()
        [2, 3, 4]
        >>> Layout.parse("0 0").take(torch.arange(4).reshape(2, 2), (2,), 0, 1).tolist()
        [0, 3]
        """
        axes = [axis for group in self.groups for axis in group]
        whole = tensor.view([size for group in self.groups for size in self._sizes(group, leaf, layers, sizes or {})])
        for place, axis in reversed(list(enumerate(axes))):
            before, beside, _ = axis.partition("+")
            if beside:
                start = 0 if before.isdecimal() else (sizes or {})[before]
                whole = whole.narrow(place, start, leaf[_own(axis)])
            elif not axis.isdecimal():
                whole = whole.select(place, layer if axis == "layer" else int(axis.partition("/")[0]))
        kept = [_own(axis) for axis in axes if "+" in axis or axis.isdecimal()]
        for own in range(len(leaf)):
            if kept.count(own) == 2:
                first = kept.index(own)
                whole = whole.diagonal(dim1=first, dim2=kept.index(own, first + 1))
                kept = [*(each for each in kept if each != own), own]
        return whole.permute([kept.index(axis) for axis in range(len(leaf))])

    @staticmethod
    def _sizes(group: tuple[str, ...], leaf: tuple[int, ...], layers: int, sizes: Sizes) -> Iterator[int]:
        for axis in group:
            if axis == "layer":
                yield layers
            elif "/" in axis:
                yield int(axis.partition("/")[2])
            else:
                yield sum(leaf[int(part)] if part.isdecimal() else sizes[part] for part in axis.split("+"))


def _own(axis: str) -> int:
    """The axis of the leaf that an axis of the tensor holds."""
    return next(int(part) for part in axis.split("+") if part.isdecimal())


@dataclass(frozen=True)
class Place:
    """Where a copy of a leaf lies: the tensor's key, the layout in it, the copy's shape, its layer of how many, and named sizes.

    orthonormal: the tensor holds orthonormal columns.
    """

    key: str
    layout: Layout
    leaf: tuple[int, ...]
    layer: int = 0
    layers: int = 1
    sizes: tuple[tuple[str, int], ...] = ()
    orthonormal: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor."""
        return self.layout.shape(self.leaf, self.layers, dict(self.sizes))

    def take(self, tensor: Tensor) -> Tensor:
        """The leaf out of the tensor, as a view."""
        return self.layout.take(tensor, self.leaf, self.layer, self.layers, dict(self.sizes))


def numbered(found: Mapping[str, tuple[Place, int | None]]) -> dict[str, Place]:
    """The places with their layers numbered within each tensor. found: by the names of the copies, each with its layer in the stack.

    >>> both = {str(layer): (Place("w", Layout.parse("layer 0"), (2,)), layer) for layer in (4, 7)}
    >>> [(each.layer, each.layers) for each in numbered(both).values()]
    [(0, 2), (1, 2)]
    """
    layers: dict[str, set[int]] = {}
    for place, layer in found.values():
        layers.setdefault(place.key, set()).update(() if layer is None else (layer,))
    result = {}
    for name, (place, layer) in found.items():
        order = sorted(layers[place.key])
        if layer is None or not place.layout.layered:
            result[name] = place
        else:
            result[name] = replace(place, layer=order.index(layer), layers=len(order))
    return result


@torch.no_grad()
def packed(places: Mapping[str, Place], leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in which leaves lie, by their keys. leaves: by the names of their copies."""
    tensors: dict[str, Tensor] = {}
    for name, place in places.items():
        leaf = leaves[name].detach()
        whole = tensors.setdefault(place.key, torch.zeros(place.shape, dtype=leaf.dtype, device=leaf.device))
        place.take(whole).copy_(leaf)
    return tensors


def wanted(places: Iterable[Place]) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in which leaves lie, by their keys."""
    return {place.key: place.shape for place in places}
