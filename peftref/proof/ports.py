"""Values at the ports of a live model: looked at, and changed at will."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from peftref.host.site import Port, Rows
from peftref.modules.running.bare import module_at
from peftref.modules.running.override import standing

See = Callable[[Tensor], Tensor | None]


def columns(rows: Rows, width: int) -> Tensor:
    """The positions on the last axis that some rows stand for: an array of the whole axis, cut on one of its axes."""
    grid = torch.arange(width).view(rows.shape)
    return grid.narrow(rows.axis, rows.start, rows.stop - rows.start).reshape(-1)


def pick(value: Tensor, rows: Rows | None) -> Tensor:
    """The part of a value that belongs to a site."""
    return value if rows is None else value[..., columns(rows, value.shape[-1])]


def _put(value: Tensor, rows: Rows | None, part: Tensor) -> Tensor:
    if rows is None:
        return part
    result = value.clone()
    result[..., columns(rows, value.shape[-1])] = part
    return result


@contextmanager
def hooked(model: torch.nn.Module, port: Port, see: See) -> Iterator[None]:
    """While it lasts, `see` is given the port's value at each call, and what it gives stands in its place."""
    module = module_at(model, port.path)

    def seen(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        part = see(pick(value, port.rows))
        return value if part is None else _put(value, port.rows, part)

    def before(_: Any, args: Any, kwargs: Any) -> Any:
        if isinstance(port.key, str):
            return args, {**kwargs, port.key: seen(kwargs[port.key])} if port.key in kwargs else kwargs
        return tuple(seen(each) if at == port.key else each for at, each in enumerate(args)), kwargs

    def after(_: Any, __: Any, ___: Any, out: Any) -> Any:
        if isinstance(out, Tensor):
            return seen(out)
        if isinstance(out, (tuple, list)):
            return type(out)(seen(each) if at == port.key else each for at, each in enumerate(out))
        out[port.key] = seen(out[port.key])
        return out

    handle = (
        module.register_forward_pre_hook(before, with_kwargs=True)
        if port.side == "input"
        else module.register_forward_hook(after, with_kwargs=True)
    )
    try:
        with standing(module):
            yield
    finally:
        handle.remove()
