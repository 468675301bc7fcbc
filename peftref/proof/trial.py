"""Runs of an instance: unchanged, and with the value at one place changed; what is seen at every port."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from peftref.host.observe.past import CACHE, FIXED
from peftref.host.observe.shadow import tensors_of
from peftref.host.site import Port, Site
from peftref.proof.instance import Instance
from peftref.proof.ports import hooked
from peftref.proof.spied import spied

Change = Callable[[Tensor], Tensor]
QKV = tuple[Tensor, Tensor, Tensor]


@dataclass(slots=True)
class Seen:
    """What one run showed: the last value at each port and those of all calls, the queries, keys and values of each attention,
    the outputs.
    """

    ports: dict[Port, Tensor] = field(default_factory=dict)
    calls: dict[Port, list[Tensor]] = field(default_factory=dict)
    attended: dict[str, list[QKV]] = field(default_factory=dict)
    outputs: tuple[Tensor, ...] = ()


class Trial:
    """One instance with its unchanged run. Raises whatever the model raises."""

    def __init__(self, instance: Instance) -> None:
        self.model, self.host = instance.model, instance.host
        self._inputs = dict(instance.inputs)
        self._ports = {port for site in self.host.sites for port in site.ports.values()}
        self._sites = {(site.stack, site.layer, site.slot): site for site in self.host.sites}
        self.base = self.run()

    def site(self, like: Site, slot: str, layer: int | None = -1) -> Site | None:
        """The site of a slot in the same stack and layer, or in another layer."""
        return self._sites.get((like.stack, like.layer if layer == -1 else layer, slot))

    def run(
        self,
        port: Port | None = None,
        change: Change | None = None,
        core: str | None = None,
        held: Port | None = None,
        past: Cache | None = None,
    ) -> Seen:
        """Run with the value at a port changed, or with what the attention of a module at path `core` gives.

        held: a port whose value stays what it is without the change. past: the cache that the tokens follow.
        """
        seen = Seen()

        def told(path: str, query: Tensor, key: Tensor, value: Tensor, output: Tensor) -> Tensor:
            seen.attended.setdefault(path, []).append((query.clone(), key.clone(), value.clone()))
            return change(output) if change is not None and path == core else output

        def note(each: Port, value: Tensor) -> None:
            seen.ports[each] = value.clone()
            seen.calls.setdefault(each, []).append(seen.ports[each])

        with ExitStack() as stack, torch.no_grad():
            if port is not None and change is not None:
                stack.enter_context(hooked(self.model, port, change))
            if held is not None:
                kept = iter(self.base.calls[held])
                stack.enter_context(hooked(self.model, held, lambda _: next(kept).clone()))
            for each in self._ports:
                stack.enter_context(hooked(self.model, each, partial(note, each)))
            stack.enter_context(spied(self.model, told))
            torch.manual_seed(0)
            seen.outputs = tuple(tensors_of(_plain(self.model(**_copied(self._inputs, past)))))
        return seen

    def moved(self, after: Seen, port: Port | None) -> bool:
        """Whether a changed run shows something else at a port."""
        return port is not None and differ(self.base.ports.get(port), after.ports.get(port))

    def moved_out(self, after: Seen) -> bool:
        """Whether a changed run gives something else."""
        return len(self.base.outputs) != len(after.outputs) or any(
            differ(one, other) for one, other in zip(self.base.outputs, after.outputs, strict=True)
        )

    def moved_qkv(self, after: Seen, path: str) -> tuple[bool, bool, bool] | None:
        """Which of query, key and value of the first attention of a module differ; None where it was not called.

        The first, because a module that several layers share reads later what it changed before.
        """
        before, now = self.base.attended.get(path), after.attended.get(path)
        if not before or not now or len(before) != len(now):
            return None
        query, key, value = (differ(*pair) for pair in zip(before[0], now[0], strict=True))
        return query, key, value


def differ(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two values are not the same, number by number; what is not a number equals itself."""
    if one is None or other is None or one.shape != other.shape:
        return one is not other
    return not torch.equal(one.nan_to_num(), other.nan_to_num())


def shift(value: Tensor) -> Tensor:
    """A change that is seen everywhere."""
    return value + torch.linspace(0.5, 1.5, value.shape[-1]).to(value.dtype)


def _plain(output: Any) -> Any:
    return dict(output) if isinstance(output, Mapping) else output


def _copied(inputs: Mapping[str, Tensor], past: Cache | None) -> dict[str, Any]:
    copied = {name: tensor.clone() for name, tensor in inputs.items()}
    if past is None:
        return copied
    return {name: value for name, value in copied.items() if name not in FIXED} | {CACHE: past}
