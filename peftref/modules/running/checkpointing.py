"""Gradient checkpointing: a layer that runs again in the backward pass is told what it was told the first time.

The reentrant way of torch drops the gradients of a layer into which no gradient flows: where the host is frozen, what enters the
stack is made to take one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from peftref.host.host import Host
from peftref.modules.running.flow import Flow
from peftref.modules.running.override import Override

FUNCTION = "_gradient_checkpointing_func"
"""What transformers calls to run a part of a model so that it can be run again."""


class Entrances:
    """What enters the first layer of a stack, made to take a gradient where the layers are checkpointed the reentrant way."""

    def __init__(self, model: nn.Module, host: Host, stack: str) -> None:
        entry = model.get_submodule(host.stack(stack).entry)
        self.layers = [each for each in entry.modules() if hasattr(each, "gradient_checkpointing")]
        paths = {site.path for site in host.sites if site.kind == "sequence" and site.stack == stack}
        self.overrides = [Override(model.get_submodule(path), self._enter) for path in sorted(paths)]

    def remove(self) -> None:
        """Takes every override off."""
        for override in self.overrides:
            override.remove()

    def _enter(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if torch.compiler.is_compiling() or not torch.is_grad_enabled() or not isinstance(result, torch.Tensor):
            return result
        if not result.requires_grad and any(_reentrant(each) for each in self.layers):
            result.requires_grad_()
        return result


def _reentrant(module: nn.Module) -> bool:
    """Whether a module runs again in the backward pass, the reentrant way."""
    if not (module.gradient_checkpointing and module.training):
        return False
    function: Any = vars(module).get(FUNCTION)
    while isinstance(function, partial):
        if function.keywords.get("use_reentrant"):
            return True
        function = function.args[0] if function.args else function.func
    return False


@contextmanager
def checkpointing(entry: nn.Module, flow: Flow) -> Iterator[None]:
    """While inside, a call of a stack: what is run for checkpointing keeps what the flow knows then, for as long as it may run again.

    entry: the module that runs the stack. Several calls before one backward pass do not mix.
    """
    wanted = torch.is_grad_enabled() and entry.training
    modules = [each for each in entry.modules() if getattr(each, "gradient_checkpointing", False)] if wanted else []
    found = {module: vars(module)[FUNCTION] for module in modules if FUNCTION in vars(module)}
    flow.checkpoints = bool(modules)
    for module, function in found.items():
        setattr(module, FUNCTION, partial(_kept, function, flow))
    try:
        yield
    finally:
        for module, function in found.items():
            setattr(module, FUNCTION, function)


def _kept(function: Callable[..., Any], flow: Flow, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    known = flow.known()

    def told(*inner: Any, **more: Any) -> Any:
        if flow.running:
            return run(*inner, **more)
        before = flow.known()
        flow.tell(known)
        try:
            return run(*inner, **more)
        finally:
            flow.tell(before)

    return function(told, *args, **kwargs)
