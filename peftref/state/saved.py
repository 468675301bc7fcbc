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

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor

from peftref.design.load import load
from peftref.design.technique import Technique
from peftref.design.write import whole_folder
from peftref.problem import PeftrefError, fail
from peftref.state.fingerprint import Fingerprint

FORMAT = 1
TECHNIQUE, TENSORS, RECORD = "technique.yaml", "module.safetensors", "module.json"


class Record(BaseModel):
    """What `module.json` holds. digest: sha256 of the tensors' file; technique_digest: of the technique's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    technique: str
    settings: dict[str, bool | int | float | str]
    host: Fingerprint
    digest: str
    technique_digest: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Saved:
    """A saved module that was read and checked."""

    technique: Technique
    tensors: Mapping[str, Tensor]
    record: Record


def write_saved(folder: str | Path, technique: Technique, tensors: Mapping[str, Tensor], host: Fingerprint) -> Path:
    """Writes a module into a folder that is new or holds a saved module, whole or not at all; returns the folder.

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
    data = dump_tensors({name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()})
    record = Record(
        format=FORMAT,
        technique=technique.name,
        settings=dict(technique.settings),
        host=host,
        digest=hashlib.sha256(data).hexdigest(),
        technique_digest=hashlib.sha256(text).hexdigest(),
        versions={name: version(name) for name in ("peftref", "torch", "transformers")}
        | {"python": platform.python_version()},
    )
    try:
        with whole_folder(target) as made:
            _write(made / TECHNIQUE, text)
            _write(made / TENSORS, data)
            _write(made / RECORD, (json.dumps(record.model_dump(), indent=1, sort_keys=True) + "\n").encode())
    except OSError as error:
        raise fail("save-place", f"{target} cannot be written: {error.strerror or error}") from None
    return target


def read_saved(folder: str | Path) -> Saved:
    """Reads and checks a saved module.

    Raises PeftrefError `saved-missing` where a file is not there, `saved-damaged` where one is not what was written,
    `saved-version` for a format of another time, and whatever is wrong with the technique.
    """
    place = Path(folder)
    missing = [name for name in (TECHNIQUE, TENSORS, RECORD) if not (place / name).is_file()]
    if missing:
        raise fail("saved-missing", f"{place} is no saved module: it has no {', '.join(missing)}")
    record = _record(place / RECORD)
    text, data = (place / TECHNIQUE).read_bytes(), (place / TENSORS).read_bytes()
    for name, content, digest in ((TECHNIQUE, text, record.technique_digest), (TENSORS, data, record.digest)):
        if hashlib.sha256(content).hexdigest() != digest:
            raise fail(
                "saved-damaged",
                f"{place / name} is not what was written: its digest differs",
                hint="copy the folder again",
            )
    technique = load(place / TECHNIQUE)
    try:
        tensors = load_tensors(data)
    except SafetensorError as error:
        raise fail("saved-damaged", f"{place / TENSORS} cannot be read: {error}") from None
    return Saved(technique, tensors, record)


def _record(path: Path) -> Record:
    try:
        found = json.loads(path.read_bytes())
        if isinstance(found, dict) and found.get("format") != FORMAT:
            known = found.get("format")
            raise fail(
                "saved-version", f"{path} has format {known!r}, and this version reads {FORMAT}", hint="upgrade peftref"
            )
        return Record.model_validate(found)
    except PeftrefError:
        raise
    except (ValueError, ValidationError) as error:
        reason = "its fields are not those of a saved module" if isinstance(error, ValidationError) else "it is no JSON"
        raise fail("saved-damaged", f"{path} cannot be read: {reason}") from None


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
