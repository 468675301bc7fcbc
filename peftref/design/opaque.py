"""A technique of which only another library's own module is known: it can be run and measured beside the others, and not derived."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from peftref.core.data import data_folder
from peftref.core.frozen_map import FrozenMap
from peftref.core.problem import fail, nearest
from peftref.design.fields import Line, Setting, TechniqueName, Title
from peftref.design.fixed import Fixed, Identifier
from peftref.design.technique import Source
from peftref.design.wording import validate
from peftref.design.yaml_source import decode, read_yaml
from peftref.host.architecture import Frozen

MARK = "peft:"
"""What stands in front of an opaque technique's name, wherever techniques are named and shown."""


class Fresh(Frozen):
    """Saved modules that a config names, made anew."""

    technique: TechniqueName = Field(description="the technique of the catalog that they are")
    count: int = Field(description="how many of them", ge=1, strict=True)


class Opaque(Frozen):
    """A module that another library makes.

    >>> opaque("peft:xlora").type
    'XLORA'
    """

    name: TechniqueName = Field(description="small letters, digits and _; the file's name too")
    title: Title = Field(description="the name in tables and figures")
    about: Line = Field("", description="what it does, in one line")
    source: Source | None = Field(None, description="where it was published")
    library: Line = Field("peft", description="the library that makes it")
    type: str = Field(description="the name of its type there")
    config: Fixed[Any] = Field(FrozenMap(), description="fields of the library's config")
    sizes: Fixed[Identifier] = Field(FrozenMap(), description="fields that are sizes of the host: FIELD: SIZE")
    modules: Fixed[Fresh] = Field(FrozenMap(), description="fields that name saved modules, made anew where left out")
    note: str | None = Field(None, description="anything else worth knowing")

    def with_config(self, config: Mapping[str, Setting]) -> Opaque:
        """A copy with some fields of the config changed."""
        return self.model_copy(update={"config": FrozenMap({**self.config, **config})})


def opaque(text: str, config: Mapping[str, Setting] = FrozenMap()) -> Opaque:
    """The opaque technique of a text: `peft:xlora` from the catalog, `peft:LORA` for a type with its defaults, `peft:FILE` for a config.

    FILE is an `adapter_config.json` or a folder that holds one. Raises PeftrefError `unknown-technique`, `checkpoint-damaged`.

    >>> opaque("peft:LORA").name, dict(opaque("peft:LORA", {"r": 4}).config)
    ('lora', {'r': 4})
    """
    name = text.removeprefix(MARK)
    path = Path(name)
    if path.is_dir():
        path = path / "adapter_config.json"
    if path.suffix == ".json":
        found = _from_config(path)
    elif name.isupper():
        found = Opaque.model_validate({"name": name.lower(), "title": name, "type": name})
    else:
        known = opaques()
        if name not in known:
            hint = (
                nearest(name, known)
                or f"there are {', '.join(known)}, every type of peft in capitals, and config files"
            )
            raise fail("unknown-technique", f"there is no opaque technique {name}", hint=hint)
        found = known[name]
    return found.with_config(config) if config else found


def opaques() -> dict[str, Opaque]:
    """The opaque techniques of the catalog, by name."""
    files = sorted((data_folder("catalog") / "opaque").glob("*.yaml"))
    return {
        path.stem: validate(Opaque, read_yaml(decode(path.read_bytes(), str(path)), str(path)), "a technique")
        for path in files
    }


def _from_config(path: Path) -> Opaque:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        kind = str(fields.pop("peft_type"))
    except OSError as error:
        raise fail("checkpoint-missing", f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise fail("checkpoint-damaged", f"{path} is no config of peft: it has no peft_type") from None
    name = path.parent.name.lower() if path.name == "adapter_config.json" else path.stem.lower()
    plain = "".join(letter if letter.isalnum() else "_" for letter in name).strip("_") or kind.lower()
    given = {key: value for key, value in fields.items() if value is not None}
    own = plain if plain[0].isalpha() else f"of_{plain}"
    return Opaque.model_validate({"name": own, "title": kind, "type": kind, "config": given})
