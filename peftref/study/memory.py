"""Memory that a training step needs beyond the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks


def saved_bytes(model: Any, batch: Mapping[str, torch.Tensor]) -> int:
    """Bytes that a forward pass saves for its backward pass: each storage once, parameters and buffers left out.

    Runs one forward and backward pass in training mode; the gradients that it makes are dropped.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    sizes: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        for part in (tensor._indices(), tensor._values()) if tensor.is_sparse else (tensor,):
            storage = part.untyped_storage()
            if storage.data_ptr() not in own:
                sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(**batch).loss
    total = sum(sizes.values())
    loss.backward()
    model.zero_grad(set_to_none=True)
    return total


def peak_bytes(model: Any, parameters: list[torch.nn.Parameter], batch: Mapping[str, torch.Tensor]) -> int:
    """The most bytes that torch's CUDA allocator held for a whole training step: the model, gradients, optimizer, activations.

    What other models hold on the device is left out.
    """
    device = next(model.parameters()).device
    own = {
        one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
        for one in (*model.parameters(), *model.buffers())
    }
    others = torch.cuda.memory_allocated(device) - sum(own.values())
    optimizer = torch.optim.AdamW(parameters, lr=0.0, weight_decay=0.0)
    model.train()
    for _ in range(2):  # the first step makes the optimizer's state
        torch.cuda.reset_peak_memory_stats(device)
        optimizer.zero_grad(set_to_none=True)
        model(**batch).loss.backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return int(torch.cuda.max_memory_allocated(device) - others)
