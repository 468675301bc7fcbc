"""The procedures of an attached technique in `transformers.Trainer`."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback

from peftref.study.train.loop import Procedures


class ProcedureCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Runs the procedures of what is attached, and notes how it is trained, within `transformers.Trainer(..., callbacks=[ProcedureCallback(attached)])`.

    What they add to the loss comes in as its gradient, before each step of the optimizer; the loss that is logged is without it.
    """

    def __init__(self, attached: Procedures) -> None:
        self.attached = attached

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Notes how the technique is trained."""
        size = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        self.attached.note(steps=state.max_steps, lr=args.learning_rate, batch_size=size, seed=args.seed)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Notes how many steps were done."""
        self.attached.note(steps=state.global_step)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Adds the gradient of the penalty."""
        penalty = self.attached.penalty()
        if isinstance(penalty, torch.Tensor):
            torch.autograd.backward(penalty)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Runs what follows a step, while the gradients are there."""
        self.attached.step(state.global_step + 1, state.max_steps)
