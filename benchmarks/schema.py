"""JSON schemas of everything that users write as YAML, generated from the models, so that editors complete and check it.

`python -m benchmarks.schema` writes them into the folder `schemas`; a test says that they are current.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from peftref.core.data import data_folder
from peftref.design.write import write_whole

DIALECT = "https://json-schema.org/draft/2020-12/schema"

SCHEMAS: tuple[tuple[str, str], ...] = (
    ("technique", "peftref.design.technique:Technique"),
    ("architecture", "peftref.host.architecture:Architecture"),
    ("task", "peftref.study.train.task:Task"),
)
"""File and model, one row per kind of YAML. A model is named, not imported: it may stand in any part of the package."""


class _Generator(GenerateJsonSchema):
    """Leaves out, without a word, the defaults that are no JSON: an empty mapping of names, all layers."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - the name is pydantic's


def schema(name: str) -> dict[str, Any]:
    """The schema of a row, with its dialect and id. Raises KeyError for a name that has no row.

    >>> schema("technique")["$id"]
    'urn:peftref:schema:technique'
    """
    module, _, model = dict(SCHEMAS)[name].partition(":")
    found = getattr(import_module(module), model)
    assert issubclass(found, BaseModel)
    generated = found.model_json_schema(mode="validation", schema_generator=_Generator)
    return {"$schema": DIALECT, "$id": f"urn:peftref:schema:{name}", **generated}


def schema_text(name: str) -> str:
    """The schema of a row as the text of its file."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def write_schemas(folder: Path | None = None) -> tuple[Path, ...]:
    """Writes every schema; gives the files."""
    target = folder or data_folder("schemas")
    return tuple(write_whole(target / f"{name}.json", schema_text(name).encode(), replace=True) for name, _ in SCHEMAS)


if __name__ == "__main__":
    for file in write_schemas():
        print(file)
