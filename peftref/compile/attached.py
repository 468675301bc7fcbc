"""The handle of an attached technique: its parameters, and what can be done with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import nn

from peftref.compile.module import Inserted
from peftref.compile.modules import Modules, container
from peftref.design.technique import Technique
from peftref.problem import fail

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Attached:
    """A technique on a host. Raises PeftrefError `detached` wherever it is used after it was taken off."""

    def __init__(self, model: PreTrainedModel, name: str) -> None:
        self.model = model
        self.name = name

    @property
    def modules(self) -> Modules:
        """All that is attached to the same host."""
        return container(self.model)

    @property
    def module(self) -> Inserted:
        """The torch module that holds the technique's tensors."""
        found = self.modules._modules.get(self.name)
        if not isinstance(found, Inserted):
            raise fail("detached", f"{self.name} is not attached to this host any more")
        return found

    @property
    def technique(self) -> Technique:
        """The technique."""
        return self.module.technique

    def parameters(self) -> Iterator[nn.Parameter]:
        """The trained parameters, each once: the technique's own, and those of the host that it trains."""
        yield from (parameter for parameter in self.module.parameters() if parameter.requires_grad)
        if self.name in self.modules.tuned:
            yield from self.modules.tuned[self.name].parameters(self.model)

    def enable(self) -> None:
        """Lets the active techniques of this host act."""
        self.modules.enabled = True
        self.modules.settle(self.model)

    def disable(self) -> None:
        """Lets no technique of this host act: the host computes what it did alone."""
        self.modules.enabled = False
        self.modules.settle(self.model)

    def detach(self) -> None:
        """Takes the technique off; with the last one, the host is as it was, bit by bit."""
        modules, _ = self.modules, self.module
        modules.active = tuple(name for name in modules.active if name != self.name)
        modules.settle(self.model)
        modules.tuned.pop(self.name, None)
        del modules._modules[self.name]
        if not modules.inserted():
            modules.clear(self.model)
