"""What flows through a live model: values at ports, changed at will, and what the attention function receives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from peftref.host.site import Port, Rows

SPY = "peftref_test_spy"
Change = Callable[[Tensor], Tensor]
Attention = tuple[str, Tensor, Tensor, Tensor]


def columns(rows: Rows, width: int) -> Tensor:
    """The positions on the last axis that some rows stand for: an array of the whole axis, cut on one of its axes."""
    grid = torch.arange(width).view(rows.shape)
    return grid.narrow(rows.axis, rows.start, rows.stop - rows.start).reshape(-1)


def pick(value: Tensor, rows: Rows | None) -> Tensor:
    """The part of a value that belongs to a site."""
    return value if rows is None else value[..., columns(rows, value.shape[-1])]


def _changed(value: Tensor, rows: Rows | None, change: Change) -> Tensor:
    if rows is None:
        return change(value)
    at = columns(rows, value.shape[-1])
    result = value.clone()
    result[..., at] = change(value[..., at])
    return result


@contextmanager
def hooked(model: PreTrainedModel, port: Port, see: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """While it lasts, `see` is given the port's value at each call, and what it gives stands in its place."""
    module = model.get_submodule(port.path)

    def put(value: Tensor) -> Tensor:
        seen = see(pick(value, port.rows))
        return value if seen is None else _changed(value, port.rows, lambda _: seen)

    def before(_: Any, args: Any, kwargs: Any) -> Any:
        if isinstance(port.key, str):
            return args, {**kwargs, port.key: put(kwargs[port.key])}
        return (*args[: port.key], put(args[port.key]), *args[port.key + 1 :]), kwargs

    def after(_: Any, __: Any, ___: Any, out: Any) -> Any:
        if isinstance(out, Tensor):
            return put(out)
        if isinstance(out, tuple):
            assert isinstance(port.key, int)
            return (*out[: port.key], put(out[port.key]), *out[port.key + 1 :])
        out[port.key] = put(out[port.key])
        return out

    handle = (
        module.register_forward_pre_hook(before, with_kwargs=True)
        if port.side == "input"
        else module.register_forward_hook(after, with_kwargs=True)
    )
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def attention(model: PreTrainedModel) -> Iterator[list[Attention]]:
    """While it lasts, the list fills with the module's path, the query, key and value of every attention."""
    seen: list[Attention] = []
    paths = {id(module): path for path, module in model.named_modules()}

    def spy(module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("softcap", None)
        seen.append((paths[id(module)], query.detach().clone(), key.detach().clone(), value.detach().clone()))
        return sdpa_attention_forward(module, query, key, value, *args, **kwargs)

    AttentionInterface.register(SPY, spy)
    AttentionMaskInterface.register(SPY, sdpa_mask)
    before = model.config._attn_implementation
    model.set_attn_implementation(SPY)
    try:
        yield seen
    finally:
        model.set_attn_implementation(before)
