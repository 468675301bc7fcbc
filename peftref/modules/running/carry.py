"""What a technique carries from layer to layer beside the stream, for one call of a stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from peftref.core.problem import fail
from peftref.modules.running.flow import Flow


@dataclass(frozen=True)
class Carry:
    """The carried quantities of one technique in one stack: their shapes for each token, by name. owner: the technique's name."""

    flow: Flow
    owner: str
    shapes: Mapping[str, tuple[int, ...]]

    def read(self, name: str, like: Tensor, dtype: torch.dtype) -> Tensor:
        """What is carried now, [batch, tokens, *shape]; zeros where nothing has set it. like: vectors of the stream there.

        Raises PeftrefError `carry-outside` where no call of the stack is running, `carry-length` where it is not of these tokens.
        """
        running = self._running(name)
        wanted = (*like.shape[:2], *self.shapes[name])
        value = running.get((self.owner, name))
        if value is None:
            return torch.zeros(wanted, dtype=dtype, device=like.device)
        if value.shape != wanted:
            text = (
                f"{name} is carried for {list(value.shape[:2])} tokens, and read at a place that has {list(wanted[:2])}"
            )
            raise fail("carry-length", text, hint="carry it between places where the stream has the same tokens")
        return value.to(like.device)

    def put(self, name: str, value: Tensor, like: Tensor) -> None:
        """Sets what is carried from here on."""
        self._running(name)[self.owner, name] = value.expand(*like.shape[:2], *self.shapes[name])

    def _running(self, name: str) -> dict[tuple[str, str], Tensor]:
        if self.flow.carried is None:
            text = f"{name} is carried through a call of the whole stack, and a layer of it runs outside of one"
            raise fail("carry-outside", text, hint="call the model, and not one layer of it")
        if self.flow.checkpoints and not torch.is_grad_enabled():
            text = (
                f"reentrant gradient checkpointing cuts off the gradient of {name}, which is carried beside the layers"
            )
            hint = 'activation_checkpointing_enable({"use_reentrant": False})'
            raise fail("checkpoint-reentrant", text, hint=hint)
        return self.flow.carried
