"""What a sublayer reads at one module, kept until its output is there at another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from peftref.host.site import Port
from peftref.modules.running.bare import module_at
from peftref.modules.running.live_site import LiveSite
from peftref.modules.running.override import Override, arguments
from peftref.modules.running.turn import turning

HELD = {"x": {"x"}, "res": {"res", "out"}}
"""What is kept for a sublayer, with the quantities that are made of it."""


class Hold:
    """Keeps what a sublayer reads at one place until its output is there at another. name: x, or res."""

    def __init__(self, model: nn.Module, live: LiveSite, name: str) -> None:
        self.live = live
        self.name = name
        self.port: Port = live.site.ports[name]
        module = module_at(model, self.port.path)
        self.names = arguments(module)
        self.override = Override(module, partial(turning, self._forward) if live.site.tokens_first else self._forward)

    def remove(self) -> None:
        """Takes the override off."""
        self.override.remove()

    def _forward(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        wanted = any(not HELD[self.name].isdisjoint(run.reads) for run in self.live.runs())
        if wanted and self.port.side == "input":
            given: dict[int | str, Any] = dict(enumerate(args))
            given.update(zip(self.names, args, strict=False))
            given.update(kwargs)
            self.live.held[self.name] = given[self.port.key] if self.port.key in given else next(iter(kwargs.values()))
        result = original(*args, **kwargs)
        if wanted and self.port.side == "output":
            self.live.held[self.name] = result if isinstance(result, Tensor) else result[self.port.key]
        return result
