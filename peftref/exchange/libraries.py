"""The libraries that modules are exchanged with, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from peftref.exchange.adapters.read import read_adapters
from peftref.exchange.adapters.write import write_adapters
from peftref.exchange.checkpoint import Checkpoint
from peftref.exchange.peft.read import read_peft
from peftref.exchange.peft.write import write_peft
from peftref.modules.attached import Attached

if TYPE_CHECKING:
    from transformers import PreTrainedModel

READERS: Mapping[str, Callable[[Checkpoint, PreTrainedModel], Attached]] = {
    "peft": read_peft,
    "adapters": read_adapters,
}
WRITERS: Mapping[str, Callable[[Attached, Path], Path]] = {"peft": write_peft, "adapters": write_adapters}


def read_module(checkpoint: Checkpoint, model: PreTrainedModel) -> Attached:
    """Attaches a checkpoint to its host, whichever library wrote it. Raises what the reader of the library raises."""
    return READERS[checkpoint.library](checkpoint, model)


def write_module(library: str, attached: Attached, folder: Path) -> Path:
    """Writes a module as a checkpoint of a library; returns the folder. Raises what the writer of the library raises."""
    return WRITERS[library](attached, folder)
