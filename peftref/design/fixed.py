"""Fields of models that are mappings of names, frozen once they were validated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import AfterValidator, PlainSerializer

from peftref.core.frozen_map import FrozenMap
from peftref.design.refuse import refuse

V = TypeVar("V")

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _identifier(value: str) -> str:
    if not IDENTIFIER.fullmatch(value):
        raise refuse("bad-name", f"{value!r} is no name", hint="letters, digits and _, not a digit first")
    return value


Identifier = Annotated[str, AfterValidator(_identifier)]
"""A pydantic field that is a name which equations and Python can use."""


def _frozen(items: Mapping[str, V]) -> FrozenMap[V]:
    return items if isinstance(items, FrozenMap) else FrozenMap(items)


Fixed = Annotated[Mapping[Identifier, V], AfterValidator(_frozen), PlainSerializer(dict, return_type=dict)]
"""A pydantic field that is a mapping of names, frozen once it was validated."""


def _path(value: str) -> str:
    for name in value.split("."):
        _identifier(name)
    return value


Fields = Annotated[
    Mapping[Annotated[str, AfterValidator(_path)], V], AfterValidator(_frozen), PlainSerializer(dict, return_type=dict)
]
"""The same of names that may stand within each other, with dots between them."""
