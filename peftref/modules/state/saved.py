"""A saved module: a folder with the technique's YAML, the tensors, and a record of what they were trained on.

The folder appears whole or not at all; what is read is checked before anything of it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor

from peftref.core.problem import fail
from peftref.design.technique import Technique
from peftref.design.write import whole_folder
from peftref.modules.state.contents import read_contents
from peftref.modules.state.record import FORMAT, RECORD, TECHNIQUE, TENSORS, Fact, Fingerprint, Record
from peftref.modules.state.sharded import whole

NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Saved:
    """A saved module that was read and checked."""

    technique: Technique
    tensors: Mapping[str, Tensor]
    record: Record


def write_saved(
    folder: str | Path,
    technique: Technique,
    tensors: Mapping[str, Tensor],
    host: Fingerprint,
    *,
    seed: int = 0,
    made: Mapping[str, str] = NONE,
    training: Mapping[str, Fact] = NONE,
) -> Path:
    """Writes a module into a folder that is new or holds a saved module, whole or not at all; returns the folder.

    made: digests of the leaves that are not among the tensors, as they are made from the seed. training: what is told of it.
    Raises PeftrefError `save-place` where the folder holds other things or cannot be written.
    """
    target = Path(folder)
    if target.exists() and (
        not target.is_dir() or {path.name for path in target.iterdir()} - {TECHNIQUE, TENSORS, RECORD}
    ):
        raise fail("save-place", f"{target} holds something else", hint="give a new folder")
    text = (
        technique.to_yaml().split("\n", 1)[1].encode()
    )  # without the line for editors: the schema is not in the folder
    data = dump_tensors({name: whole(tensor.detach()).to("cpu").contiguous() for name, tensor in tensors.items()})
    record = Record(
        format=FORMAT,
        technique=technique.name,
        settings=dict(technique.settings),
        host=host,
        digest=hashlib.sha256(data).hexdigest(),
        technique_digest=hashlib.sha256(text).hexdigest(),
        versions={name: version(name) for name in ("peftref", "torch", "transformers")}
        | {"python": platform.python_version()},
        seed=seed,
        made=dict(made),
        training=dict(training),
    )
    try:
        with whole_folder(target) as folder_made:
            _write(folder_made / TECHNIQUE, text)
            _write(folder_made / TENSORS, data)
            _write(folder_made / RECORD, (json.dumps(record.model_dump(), indent=1, sort_keys=True) + "\n").encode())
    except OSError as error:
        raise fail("save-place", f"{target} cannot be written: {error.strerror or error}") from None
    return target


def read_saved(folder: str | Path) -> Saved:
    """Reads and checks a saved module; raises what `read_contents` raises."""
    found = read_contents(folder)
    path = Path(folder) / TENSORS
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != found.record.digest:
            raise fail("saved-damaged", f"{path} changes while it is read", hint="copy the folder again")
        return Saved(found.technique, load_tensors(data), found.record)
    except SafetensorError as error:
        raise fail("saved-damaged", f"{path} cannot be read: {error}") from None


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
