"""Attaching a technique to a live host, in place; several by name, active or not; and taking them off again without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from peftref.compile.core import CoreTap
from peftref.compile.module import Inserted, initialise
from peftref.compile.run import Run, quantity
from peftref.compile.sequence import SequenceTap
from peftref.compile.tap import Tap
from peftref.design.placement import Placement, placements
from peftref.design.technique import Technique
from peftref.host.host import Host
from peftref.host.resolve import resolve
from peftref.host.site import Site
from peftref.problem import fail, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONTAINER = "peftref"
Combine = Literal["stack", "sum"]


class Modules(nn.Module):
    """What peftref keeps on a host: the attached techniques by name, which are active, how they combine, and the taps."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.host = host
        self.active: tuple[str, ...] = ()
        self.enabled = True
        self.combine: Combine = "stack"
        self.taps: dict[str, Tap] = {}
        self.cores: dict[str, CoreTap] = {}
        self.sequences: dict[str, SequenceTap] = {}
        self.frozen: dict[str, bool] = {}

    def inserted(self) -> dict[str, Inserted]:
        """The attached techniques by name, in the order in which they came."""
        return {name: module for name, module in self._modules.items() if isinstance(module, Inserted)}

    def runs(self, site: Site) -> list[Run]:
        """The runs that are active at a site."""
        if not self.enabled:
            return []
        found = []
        for name in self.active:
            module = self._modules[name]
            assert isinstance(module, Inserted)
            found += module.at(site)
        return found


class Attached:
    """A technique on a host: its parameters, and what can be done with it."""

    def __init__(self, model: PreTrainedModel, name: str) -> None:
        self.model = model
        self.name = name

    @property
    def _modules(self) -> Modules:
        return container(self.model)

    @property
    def module(self) -> Inserted:
        """The torch module that holds the parameters."""
        found = self._modules._modules.get(self.name)
        if not isinstance(found, Inserted):
            raise fail("detached", f"{self.name} is not attached to this host any more")
        return found

    @property
    def technique(self) -> Technique:
        """The technique."""
        return self.module.technique

    def parameters(self) -> Iterator[nn.Parameter]:
        """The trained parameters, each once."""
        return (parameter for parameter in self.module.parameters() if parameter.requires_grad)

    def enable(self) -> None:
        """Lets the active techniques of this host act."""
        self._modules.enabled = True

    def disable(self) -> None:
        """Lets no technique of this host act: the host computes what it did alone."""
        self._modules.enabled = False

    def detach(self) -> None:
        """Takes the technique off; with the last one, the host is as it was, bit by bit."""
        modules = self._modules
        self.module  # noqa: B018 - raises where it is detached already
        del modules._modules[self.name]
        modules.active = tuple(name for name in modules.active if name != self.name)
        if not modules.inserted():
            _clear(self.model, modules)


def container(model: nn.Module) -> Modules:
    """What peftref keeps on a host; raises PeftrefError `detached` where nothing is attached."""
    found = model._modules.get(CONTAINER)
    if not isinstance(found, Modules):
        raise fail("detached", "nothing is attached to this host")
    return found


def attach(model: PreTrainedModel, technique: Technique, name: str = "default", *, seed: int = 0) -> Attached:
    """Attaches a technique to a host in place, freezes the host, and makes it the only active one.

    Raises PeftrefError: `name-taken`, and whatever keeps the technique from standing on this host; the host is then untouched.

    >>> from transformers import LlamaConfig, LlamaModel
    >>> from peftref.design.load import load
    >>> tiny = LlamaModel(LlamaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=64))
    >>> attached = attach(tiny, load("lora", r=2))
    >>> sum(parameter.numel() for parameter in attached.parameters())
    128
    >>> attached.detach()
    """
    known = model._modules.get(CONTAINER)
    modules = known if isinstance(known, Modules) else None
    if not name.isidentifier():
        raise fail("name-taken", f"{name!r} is no name for an attached technique", hint="letters, digits and _")
    if modules is not None and name in modules._modules:
        raise fail("name-taken", f"a technique named {name} is attached already", hint="give another name")
    host = modules.host if modules is not None else resolve(model)
    placed = placements(technique, host)
    inserted = Inserted(technique, host, placed)
    _initialise(model, inserted, seed)
    if modules is None:
        modules = Modules(host)
        modules.frozen = {key: parameter.requires_grad for key, parameter in model.named_parameters()}
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        model.add_module(CONTAINER, modules)
    modules.add_module(name, inserted)
    inserted.train(model.training)
    for placement in placed:
        _tap(model, modules, placement)
    modules.active = (name,)
    return Attached(model, name)


def set_active(model: PreTrainedModel, names: str | list[str] | tuple[str, ...], combine: Combine = "stack") -> None:
    """Makes some attached techniques active: stacked, each on the result of the one before, or summed, each on the host alone."""
    modules = container(model)
    wanted = (names,) if isinstance(names, str) else tuple(names)
    for name in wanted:
        if name not in modules.inserted():
            raise fail("detached", f"no technique named {name} is attached", hint=nearest(name, modules.inserted()))
    modules.active = wanted
    modules.combine = combine


def _tap(model: nn.Module, modules: Modules, placement: Placement) -> None:
    site = placement.site
    if site.kind == "core":
        if site.name not in modules.cores:
            modules.cores[site.name] = CoreTap(model.get_submodule(site.path), site, modules.runs)
        return
    if site.kind == "sequence":
        if site.name not in modules.sequences:
            stack = modules.host.stack(site.stack)
            reader = modules.host.stack(stack.feeds) if stack.feeds else None
            modules.sequences[site.name] = SequenceTap(model, site, stack, reader, modules.runs)
        return
    tap = modules.taps.get(site.path)
    if tap is None:
        tap = modules.taps[site.path] = Tap(model.get_submodule(site.path), modules.runs, lambda: modules.combine)
    tap.add(site)


def _clear(model: nn.Module, modules: Modules) -> None:
    for tap in modules.taps.values():
        tap.remove()
    for core in modules.cores.values():
        core.remove()
    for sequence in modules.sequences.values():
        sequence.remove()
    del model._modules[CONTAINER]
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(modules.frozen.get(key, parameter.requires_grad))


def _initialise(model: nn.Module, inserted: Inserted, seed: int) -> None:
    first = next(model.parameters())
    for copy in inserted.copies:
        site = copy.sites[0]
        module = model.get_submodule(site.path)
        host = _quantities(site, module, copy.leaf.init_args)
        initialise(inserted.leaf(copy.name), copy, inserted.technique.settings, host, seed)
    inserted.to(device=first.device, dtype=first.dtype if first.is_floating_point() else torch.float32)


def _quantities(site: Site, module: nn.Module, init_args: tuple[tuple[str, Any], ...]) -> dict[str, Tensor]:
    wanted = {value for _, value in init_args if isinstance(value, str) and value in ("W", "b", "g", "E")}
    return {name: quantity(name, site, module) for name in wanted}
