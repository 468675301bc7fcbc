"""A checkpoint of a peer library as it lies in a folder, read without running anything of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftref.core.problem import fail
from peftref.modules.state.contents import Stored, read_header

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "adapter_config.json"
LARGEST_CONFIG = 1 << 20


@dataclass(frozen=True)
class Format:
    """How a library lays a checkpoint out. tensors, pickled: its files; named: the field of the config that says its type."""

    library: str
    tensors: str
    pickled: str
    named: str
    kind: type
    hint: str


FORMATS = (
    Format(
        "peft", "adapter_model.safetensors", "adapter_model.bin", "peft_type", str,
        "load it with peft and save it again, as safetensors",
    ),
    Format(
        "adapters", "adapter.safetensors", "pytorch_adapter.bin", "config", dict,
        "load it with adapters and save it again, with use_safetensors=True",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """The library that wrote it, the fields of its config, and the tensors beside it."""

    folder: Path
    library: str
    fields: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def host(self) -> str | None:
        """The name of the host that it was made for, where it says so."""
        return self.fields.get("base_model_name_or_path") or self.fields.get("model_name") or None


def read_checkpoint(folder: str | Path) -> Checkpoint:
    """Reads a checkpoint from a local folder or a hub name, and tells by its config which library wrote it.

    Raises PeftrefError `checkpoint-missing` where a file is not there, `checkpoint-pickled` where the tensors are a pickle,
    `checkpoint-damaged` where a file is not what its name says.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found = read_outline(folder)
    path = found.folder / found.form.tensors
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise fail("checkpoint-damaged", f"{path} cannot be read: {error}") from None
    return Checkpoint(found.folder, found.form.library, found.fields, tensors)


@dataclass(frozen=True)
class Outline:
    """A checkpoint of another library without its tensors: how it is laid out, and the fields of its config."""

    folder: Path
    form: Format
    fields: Mapping[str, Any]

    @property
    def stored(self) -> Mapping[str, Stored]:
        """The tensors' types and shapes, by name; raises PeftrefError `saved-damaged`."""
        return read_header(self.folder / self.form.tensors)

    @property
    def files(self) -> Mapping[str, int]:
        """Its files' sizes in bytes, by name."""
        return {name: (self.folder / name).stat().st_size for name in (CONFIG, self.form.tensors)}


def read_outline(folder: str | Path) -> Outline:
    """Reads what a checkpoint is without its tensors, and without torch; raises what `read_checkpoint` raises of the rest."""
    place = _local(folder)
    if not (place / CONFIG).is_file():
        raise fail("checkpoint-missing", f"{place} has no {CONFIG}")
    if (place / CONFIG).stat().st_size > LARGEST_CONFIG:
        raise fail("checkpoint-damaged", f"{place / CONFIG} is larger than any config is")
    try:
        fields = json.loads((place / CONFIG).read_bytes())
    except ValueError:
        raise fail("checkpoint-damaged", f"{place / CONFIG} is no JSON") from None
    form = _format(fields)
    if form is None:
        wanted = " and ".join(f"no {each.named} as those of {each.library} have" for each in FORMATS)
        raise fail("checkpoint-damaged", f"{place / CONFIG} is of no known library: it has {wanted}")
    if not (place / form.tensors).is_file():
        if (place / form.pickled).is_file():
            text = f"{place / form.pickled} is a pickle, and unpickling runs whatever is in it"
            raise fail("checkpoint-pickled", text, hint=form.hint)
        raise fail("checkpoint-missing", f"{place} has no {form.tensors}")
    return Outline(place, form, fields)


def _format(fields: object) -> Format | None:
    """The format of a config, by the field that only it has."""
    if not isinstance(fields, dict):
        return None
    return next((form for form in FORMATS if isinstance(fields.get(form.named), form.kind)), None)


def _local(folder: str | Path) -> Path:
    place = Path(folder)
    if place.is_dir() or isinstance(folder, Path):
        return place
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(folder, allow_patterns=[CONFIG, *(form.tensors for form in FORMATS)]))
    except (OSError, HFValidationError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise fail("checkpoint-missing", f"{folder} is no folder, and it cannot be looked up: {reason}") from None
