"""Floating-point operations per token, counted by torch while a step runs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, slots=True)
class Flops:
    """FLOPs per token of the host's input (padding counted as tokens), forward and backward."""

    forward: float
    backward: float

    @property
    def step(self) -> float:
        """Forward and backward together."""
        return self.forward + self.backward


def eager(model: Any) -> bool:
    """Make a host compute attention by plain products, which torch's counter sees; False where the host cannot."""
    with contextlib.suppress(ValueError, AttributeError, NotImplementedError):
        model.set_attn_implementation("eager")
        return True
    return False


def count_flops(model: Any, batch: Mapping[str, torch.Tensor]) -> Flops:
    """Run one step under torch's FLOP counter: two per multiply-add of every matrix product, elementwise work left out."""
    tokens = batch["input_ids"].numel()
    model.train()
    with FlopCounterMode(display=False) as counter:
        loss = model(**batch).loss
        forward = counter.get_total_flops()
        loss.backward()
    total = counter.get_total_flops()
    model.zero_grad(set_to_none=True)
    return Flops(forward / tokens, (total - forward) / tokens)
