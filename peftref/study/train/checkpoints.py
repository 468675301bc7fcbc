"""The checkpoints of `transformers.Trainer` hold what is attached, and training goes on from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from peftref.core.problem import fail
from peftref.modules.attached import Attached
from peftref.modules.container import CONTAINER
from peftref.modules.restore import refill
from peftref.modules.state.sharded import sharded

STATE = "trainer_state.json"


class ModuleCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Keeps what is attached in the checkpoints of `transformers.Trainer(..., callbacks=[ModuleCallback(attached)])`, and of TRL's.

    Each checkpoint gets a saved module, `peftref/NAME` in its folder (safetensors, as `attached.save` writes it), beside the files of
    the host alone. `trainer.train(resume_from_checkpoint=...)` begins with its values, and with `load_best_model_at_end` the best
    ones are there at the end. resume: the checkpoint that training goes on from, where it is not in the trainer's own output folder.
    Raises PeftrefError `resume-place` where no module of this training is found, and what `refill` raises.
    """

    def __init__(self, attached: Attached, resume: str | Path | None = None) -> None:
        self.attached = attached
        self.resume = resume

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Saves what is attached into the checkpoint that was just written."""
        if state.is_world_process_zero or sharded(self.attached.model):
            self.attached.save(self._module(Path(args.output_dir) / f"checkpoint-{state.global_step}"))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Takes the values of the checkpoint where training goes on from one."""
        if state.global_step == 0:
            return
        given = self.resume
        place = Path(args.output_dir) / f"checkpoint-{state.global_step}" if given is None else Path(given)
        if not self._module(place).is_dir() or (given is None and not _same(place, state)):
            text = f"training goes on at step {state.global_step}, and {place} holds no {self.attached.name} of this training"
            hint = "ModuleCallback(attached, resume=FOLDER) names the checkpoint that it goes on from"
            raise fail("resume-place", text, hint=hint)
        refill(self.attached, self._module(place))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Takes the values of the best checkpoint where the trainer does so for the host."""
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            refill(self.attached, self._module(Path(state.best_model_checkpoint)))

    def _module(self, checkpoint: Path) -> Path:
        return checkpoint / CONTAINER / self.attached.name


def _same(checkpoint: Path, state: Any) -> bool:
    """Whether a checkpoint is the one that a training state was read from, by its history."""
    try:
        there = json.loads((checkpoint / STATE).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(there, dict) and there.get("log_history") == state.log_history
