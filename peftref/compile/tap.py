"""Taps: where the modules of a technique meet a module of the host. A tap overrides `forward` of one instance, and can be taken off.

The class, the parameters, the state dict and the hooks of the host's module stay untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from peftref.compile.override import Override
from peftref.compile.rows import put, take
from peftref.compile.run import Run
from peftref.host.site import Site


class Tap:
    """What one module of the host does differently: effects on its inputs, its own quantities, and its outputs.

    active: gives the runs of a site that are active now, in order; each takes the quantities it reads and gives those it sets.
    """

    def __init__(self, module: nn.Module, active: Callable[[Site], list[Run]], combine: Callable[[], str]) -> None:
        self.module = module
        self.active = active
        self.combine = combine
        self.sites: list[Site] = []
        self.override = Override(module, self.forward)

    def add(self, site: Site) -> None:
        """Puts one more site under this tap; inputs come before outputs, parts before wholes."""
        if site not in self.sites:
            self.sites.append(site)
            order = {"activation": 0, "norm": 1, "linear": 2, "sequence": 3, "sublayer": 4}
            self.sites.sort(key=lambda each: order.get(each.kind, 5))

    def remove(self) -> None:
        """Takes the override off."""
        self.override.remove()

    def forward(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The host's forward, with the effects of every active run."""
        working = [(site, runs) for site in self.sites if (runs := self.active(site))]
        if not working:
            return original(*args, **kwargs)
        for site, runs in working:
            if site.kind == "activation":
                args, kwargs = _replace_input(args, kwargs, partial(self._apply, site, runs, None))
        with _own_quantities(self.module, working):
            result = original(*args, **kwargs)
        x = args[0] if args else next(iter(kwargs.values()), None)
        for site, runs in working:
            if site.kind in ("linear", "sublayer", "norm"):
                result = self._output(site, runs, x, result)
        return result

    def _output(self, site: Site, runs: list[Run], x: Any, result: Any) -> Any:
        port = site.ports["h"]
        h = result if isinstance(result, Tensor) else result[port.key]
        part = h if port.rows is None else take(h, port.rows)
        changed = self._apply(site, [run for run in runs if "h" in run.gives], x, part)
        if changed is part:
            return result
        whole = changed if port.rows is None else put(h, port.rows, changed)
        if isinstance(result, Tensor):
            return whole
        return type(result)(whole if i == port.key else each for i, each in enumerate(result))

    def _apply(self, site: Site, runs: list[Run], x: Any, h: Tensor) -> Tensor:
        """h after all runs: one after the other, or the sum of what each alone would add."""
        if self.combine() == "sum" and len(runs) > 1:
            return h + sum((run(site, self.module, x=x, h=h)["h"] - h for run in runs), start=torch.zeros_like(h))
        for run in runs:
            h = run(site, self.module, x=x, h=h)["h"]
        return h


def _replace_input(
    args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[Tensor], Tensor]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if args:
        return (change(args[0]), *args[1:]), kwargs
    first = next(iter(kwargs))
    return args, {**kwargs, first: change(kwargs[first])}


@contextmanager
def _own_quantities(module: nn.Module, working: list[tuple[Site, list[Run]]]) -> Iterator[None]:
    """While inside, the module's own gain and shift are the replaced ones."""
    swapped: dict[str, Tensor] = {}
    names = {"g": "weight", "b": "bias"}
    for site, runs in working:
        for run in runs:
            if site.kind == "norm" and "h" not in run.gives:
                known = {n: swapped[names[n]] for n in run.reads if names.get(n) in swapped}
                given = run(site, module, **known)
                swapped |= {names[n]: value for n, value in given.items()}
    saved = {name: module._parameters[name] for name in swapped if module._parameters.get(name) is not None}
    for name in saved:
        module._parameters[name] = swapped[name]  # type: ignore[assignment]  # a tensor with its graph, for the length of one call
    try:
        yield
    finally:
        for name, parameter in saved.items():
            module._parameters[name] = parameter
