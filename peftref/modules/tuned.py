"""The host's own parameters, where a technique trains them in place: their values change hands, and the original ones are kept."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from peftref.core.problem import fail
from peftref.design.technique import Technique
from peftref.host.host import Host
from peftref.modules.running.bare import module_at


class Tuned:
    """The host's parameters that a technique trains, by name: original values kept aside while the trained ones are in the host,
    the trained ones with their gradients while these are not."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        if any(model.get_parameter(name).is_meta for name in names):
            text = "parameters of the host would be trained, and it has no weights yet"
            raise fail("host-empty", text, hint="load the host's weights first")
        self.names = names
        self.inside = False
        self.grads: dict[str, Tensor] = {}
        self.aside = {name: model.get_parameter(name).detach().to("cpu", copy=True) for name in names}

    def parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """The host's parameters that are trained."""
        return [model.get_parameter(name) for name in self.names]

    def values(self, model: nn.Module) -> dict[str, Tensor]:
        """The trained values, wherever they are now."""
        return {name: model.get_parameter(name).detach() if self.inside else self.aside[name] for name in self.names}

    @torch.no_grad()
    def swap(self, model: nn.Module, inside: bool) -> None:
        """Brings the trained values into the host, or takes them out and the original ones back in, bit by bit."""
        if self.inside == inside:
            return
        for name in self.names:
            parameter = model.get_parameter(name)
            out = parameter.detach().to("cpu", copy=True)
            parameter.copy_(self.aside[name])
            self.aside[name] = out
            parameter.requires_grad_(inside)
            if inside:
                parameter.grad = self.grads.pop(name, None)
            elif parameter.grad is not None:
                self.grads[name], parameter.grad = parameter.grad, None
        self.inside = inside


def tuned_names(model: nn.Module, technique: Technique, host: Host) -> tuple[str, ...]:
    """The names of the host's parameters that a technique trains: none, all of the backbone, or those at some slots.

    A task head is no part of the host; its vocabulary head is. Raises PeftrefError `slot-absent`, `tune-part` where a slot is
    only some rows of a parameter, or no parameter at all, and `tied-weight` where another slot uses the same one.
    """
    if technique.tune == "none":
        return ()
    if technique.tune == "all":
        base = getattr(model, "base_model", model)
        heads = [module_at(model, site.path) for site in host.sites if site.slot == "head"]
        wanted = {id(parameter) for module in (base, *heads) for parameter in module.parameters()}
    else:
        wanted = set()
        for site in host.select(technique.tune):
            port = site.ports.get("h")
            own = list(module_at(model, site.path).parameters(recurse=False))
            if (
                site.kind not in ("linear", "norm", "sequence")
                or not own
                or (port is not None and port.rows is not None)
            ):
                raise fail("tune-part", f"{site.name} of {host.name} is no parameter of its own that could be trained")
            wanted |= {id(parameter) for parameter in own}
        _refuse_tied(model, host, technique.tune, wanted)
    return tuple(
        name
        for name, parameter in model.named_parameters()
        if id(parameter) in wanted and ".peftref." not in f".{name}"
    )


def _refuse_tied(model: nn.Module, host: Host, chosen: tuple[str, ...], wanted: set[int]) -> None:
    """Raises PeftrefError `tied-weight` where a slot that is not chosen uses a parameter that would be trained."""
    inside = {site.path for site in host.select(chosen)}
    for site in host.sites:
        if site.kind in ("linear", "sequence") and site.path not in inside:
            for name, parameter in module_at(model, site.path).named_parameters(recurse=False):
                if id(parameter) in wanted:
                    text = (
                        f"{site.path}.{name} is one parameter with what would be trained, and {site.name} is not named"
                    )
                    raise fail("tied-weight", text, hint=f"name {site.slot} too, or give the slots leaves of their own")
