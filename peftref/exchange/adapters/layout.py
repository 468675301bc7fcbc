"""How a leaf lies in a tensor of a peer: axes in another order, one over the layers, one of which the leaf is a part."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

_WORD = re.compile(r"\(([^()]*)\)|(\S+)")


@dataclass(frozen=True)
class Layout:
    """The axes of a tensor in their order, in groups that are one axis there.

    An axis is a number, that axis of the leaf; `layer`, one over the layers; or `0/2`, one of 2 where the leaf stands at 0. An
    axis of the leaf that stands twice is on the diagonal.

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

    def shape(self, leaf: tuple[int, ...], layers: int) -> tuple[int, ...]:
        """The shape of the tensor."""
        return tuple(math.prod(self._sizes(group, leaf, layers)) for group in self.groups)

    def take(self, tensor: Tensor, leaf: tuple[int, ...], layer: int, layers: int) -> Tensor:
        """The leaf of a layer out of the tensor, as a view.

        >>> import torch
        >>> Layout.parse("1 0").take(torch.arange(6).reshape(2, 3), (3, 2), 0, 1).tolist()
        [[0, 3], [1, 4], [2, 5]]
        >>> Layout.parse("0 0").take(torch.arange(4).reshape(2, 2), (2,), 0, 1).tolist()
        [0, 3]
        """
        axes = [axis for group in self.groups for axis in group]
        whole = tensor.view([size for group in self.groups for size in self._sizes(group, leaf, layers)])
        for place, index in reversed(list(self._indices(axes, layer))):
            whole = whole.select(place, index)
        own = [int(axis) for axis in axes if axis.isdecimal()]
        for axis in range(len(leaf)):
            if own.count(axis) == 2:
                first = own.index(axis)
                whole = whole.diagonal(dim1=first, dim2=own.index(axis, first + 1))
                own = [*(each for each in own if each != axis), axis]
        return whole.permute([own.index(axis) for axis in range(len(leaf))])

    @staticmethod
    def _indices(axes: list[str], layer: int) -> Iterator[tuple[int, int]]:
        for place, axis in enumerate(axes):
            if not axis.isdecimal():
                yield place, layer if axis == "layer" else int(axis.partition("/")[0])

    @staticmethod
    def _sizes(group: tuple[str, ...], leaf: tuple[int, ...], layers: int) -> list[int]:
        return [
            layers if axis == "layer" else leaf[int(axis)] if axis.isdecimal() else int(axis.partition("/")[2])
            for axis in group
        ]
