"""Gradient checkpointing: a layer that runs again in the backward pass is told what it was told the first time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from peftref.compile.flow import Flow

FUNCTION = "_gradient_checkpointing_func"
"""What transformers calls to run a part of a model so that it can be run again."""


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
