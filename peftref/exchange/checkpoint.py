"""A checkpoint of huggingface/peft as it lies in a folder, read without running anything of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from peftref.problem import fail

CONFIG, TENSORS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
LARGEST_CONFIG = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """The fields of a config and the tensors beside it."""

    folder: Path
    fields: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def read_checkpoint(folder: str | Path) -> Checkpoint:
    """Reads a checkpoint from a local folder or a hub name.

    Raises PeftrefError `checkpoint-missing` where a file is not there, `checkpoint-pickled` where the tensors are a pickle,
    `checkpoint-damaged` where a file is not what its name says.
    """
    place = _local(folder)
    if not (place / CONFIG).is_file():
        raise fail("checkpoint-missing", f"{place} has no {CONFIG}")
    if not (place / TENSORS).is_file():
        if (place / PICKLED).is_file():
            text = f"{place / PICKLED} is a pickle, and unpickling runs whatever is in it"
            raise fail("checkpoint-pickled", text, hint="load it with peft and save it again, as safetensors")
        raise fail("checkpoint-missing", f"{place} has no {TENSORS}")
    if (place / CONFIG).stat().st_size > LARGEST_CONFIG:
        raise fail("checkpoint-damaged", f"{place / CONFIG} is larger than any config is")
    try:
        fields = json.loads((place / CONFIG).read_bytes())
    except ValueError:
        raise fail("checkpoint-damaged", f"{place / CONFIG} is no JSON") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("peft_type"), str):
        raise fail("checkpoint-damaged", f"{place / CONFIG} names no peft_type")
    try:
        tensors = load_file(place / TENSORS)
    except (SafetensorError, OSError, ValueError) as error:
        raise fail("checkpoint-damaged", f"{place / TENSORS} cannot be read: {error}") from None
    return Checkpoint(place, fields, tensors)


def _local(folder: str | Path) -> Path:
    place = Path(folder)
    if place.is_dir() or isinstance(folder, Path):
        return place
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(folder, allow_patterns=[CONFIG, TENSORS]))
    except (OSError, HFValidationError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise fail("checkpoint-missing", f"{folder} is no folder, and it cannot be looked up: {reason}") from None
