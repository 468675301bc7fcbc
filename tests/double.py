"""Hosts whose every step is in double precision, those too that they ask for in single precision: norms, softmax, rotations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Double(TorchFunctionMode):
    """Every call of torch that asks for single precision gets double precision."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls the function with the other type."""
        func = torch.Tensor.double if func is torch.Tensor.float else func
        args = tuple(torch.double if each is torch.float32 else each for each in args)
        kwargs = {key: torch.double if each is torch.float32 else each for key, each in (kwargs or {}).items()}
        return func(*args, **kwargs)


@contextmanager
def in_double() -> Iterator[None]:
    """Computes in double precision what torch and hosts compute in single precision, so that two formulas can be told apart.

    >>> with in_double():
    ...     torch.ones(2).float().softmax(-1, dtype=torch.float32).dtype
    torch.float64
    """
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.double)
    try:
        with Double():
            yield
    finally:
        torch.set_default_dtype(usual)
