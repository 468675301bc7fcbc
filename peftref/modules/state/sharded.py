"""Tensors that are sharded over processes (FSDP2): made whole to be saved, and given whole values."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch import distributed as dist


def whole(tensor: Tensor) -> Tensor:
    """A tensor as a whole; where it is sharded over processes, all of them must ask.

    >>> whole(torch.ones(2))
    tensor([1., 1.])
    """
    gather = getattr(tensor, "full_tensor", None)
    found: Tensor = tensor if gather is None else gather()
    return found


def sharded(model: nn.Module) -> bool:
    """Whether a parameter of a module is sharded over processes.

    >>> sharded(nn.Linear(2, 3))
    False
    """
    return any(hasattr(parameter, "full_tensor") for parameter in model.parameters())


@torch.no_grad()
def put(parameter: Tensor, value: Tensor) -> None:
    """Gives a parameter, or this process's shard of it, its part of a whole value that every process has."""
    if not hasattr(parameter, "full_tensor"):
        parameter.copy_(value)
        return
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(parameter, DTensor)
    given = value.to(parameter.device, parameter.dtype)
    parameter.copy_(distribute_tensor(given, parameter.device_mesh, parameter.placements, src_data_rank=None))


def first() -> bool:
    """Whether this process is the first, or the only one."""
    return not dist.is_initialized() or dist.get_rank() == 0


def together() -> None:
    """Waits for all processes."""
    if dist.is_initialized():
        dist.barrier()
