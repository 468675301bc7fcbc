"""One product for all leaves that read the same value: the A of query, key and value stacked, so that x is read once, both ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class Projection:
    """The product of several leaves [k, d] with one value [batch, tokens, d], made once and handed out in parts.

    The first site that asks has all parts made; the others get theirs if they ask with the very same tensor. Where they do not
    (a host that copies its input in between), each leaf is multiplied by itself from then on.
    """

    def __init__(self, leaves: Sequence[Tensor]) -> None:
        self.leaves = list({id(leaf): leaf for leaf in leaves}.values())
        self.sites = 0
        self.apart = False
        self.x: Tensor | None = None
        self.parts: tuple[Tensor, ...] = ()
        self.taken: set[int] = set()
        self.learning = False

    def part(self, leaf: Tensor) -> Part:
        """What gives a site the product with its leaf."""
        position = next(i for i, each in enumerate(self.leaves) if each is leaf)
        self.sites += 1
        return Part(self, position, self.sites - 1)

    def take(self, x: Tensor, position: int, site: int) -> Tensor:
        """The part of one site."""
        if self.apart:
            return F.linear(x, self.leaves[position])
        if self.x is not x or site in self.taken or self.learning != torch.is_grad_enabled():
            if self.taken:
                self.apart = self.x is not x
            self._forget()
            if self.apart:
                return F.linear(x, self.leaves[position])
            self.x, self.learning = x, torch.is_grad_enabled()
            self.parts = self._product(x)
        self.taken.add(site)
        part = self.parts[position]
        if len(self.taken) == self.sites:
            self._forget()
        return part

    def _product(self, x: Tensor) -> tuple[Tensor, ...]:
        if len(self.leaves) == 1:
            return (F.linear(x, self.leaves[0]),)
        if torch.compiler.is_compiling():  # a graph of torch's own keeps no copy either
            product = F.linear(x, torch.cat(self.leaves))
        else:
            product = _Stacked.apply(x, *self.leaves)  # type: ignore[no-untyped-call]
        return torch.split(product, [leaf.shape[0] for leaf in self.leaves], -1)

    def _forget(self) -> None:
        self.x, self.parts, self.taken = None, (), set()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "x": None, "parts": (), "taken": set()}


class Part:
    """The product of one site's leaf; called with the value that the site reads."""

    def __init__(self, projection: Projection, position: int, site: int) -> None:
        self.projection = projection
        self.position = position
        self.site = site

    def __call__(self, x: Tensor) -> Tensor:
        """The product with x."""
        return self.projection.take(x, self.position, self.site)


class _Stacked(torch.autograd.Function):
    """The product of stacked leaves with a value; the leaves are stacked again for backward, and no copy of them is kept."""

    @staticmethod
    def forward(x: Tensor, *leaves: Tensor) -> Tensor:
        return F.linear(x, torch.cat(leaves))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, *leaves = inputs
        ctx.save_for_backward(x if any(ctx.needs_input_grad[1:]) else None, *leaves)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *leaves = ctx.saved_tensors
        into = grad @ torch.cat(leaves).to(grad.dtype) if ctx.needs_input_grad[0] else None
        own: tuple[Tensor | None, ...] = (None,) * len(leaves)
        if any(ctx.needs_input_grad[1:]):
            made = grad.flatten(0, -2).mT @ x.flatten(0, -2).to(grad.dtype)
            own = torch.split(made, [leaf.shape[0] for leaf in leaves])
        return into, *own
