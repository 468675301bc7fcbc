"""The kinds of field that a technique is made of, each with its check in the user's words and its JSON schema."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, StringConstraints, WithJsonSchema

from peftref.design.refuse import refuse
from peftref.host.architecture import WORDS

Setting = int | float | str | bool
Tune = Literal["none", "all"] | tuple[str, ...]

NAME = re.compile(r"[a-z][a-z0-9_]*")
_SLOTS = tuple(WORDS)


def _technique_name(value: str) -> str:
    if not NAME.fullmatch(value):
        hint = "a name begins with a small letter, then small letters, digits and _"
        raise refuse("bad-name", f"{value!r} is no name of a technique", hint=hint)
    return value


def _line(value: str) -> str:
    if "\n" in value:
        raise refuse("bad-value", "this must be a single line")
    return value


def _setting(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        raise refuse("bad-value", "a setting must be a finite number")
    if not isinstance(value, int | float | str | bool):
        raise refuse("bad-value", "a setting is a number, a text, true or false", hint="write NAME: VALUE")
    return value


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _shape(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise refuse("bad-value", "a shape is a list of sizes", hint="write [r, d_in], or [] for a single number")
    for position, size in enumerate(value):
        if isinstance(size, bool) or not isinstance(size, int | str) or (isinstance(size, int) and size < 1):
            text = "a size is a whole number of at least 1, or an expression such as d_in // n"
            raise refuse("bad-value", text, at=(position,))
    return [str(size) for size in value]


def _tune(value: object) -> object:
    if isinstance(value, str):
        return value if value in ("none", "all") else [value]
    if isinstance(value, list | tuple) and value:
        return value
    raise refuse("bad-value", "tune is none, all, or a list of slots")


def _plain_shape(shape: tuple[str, ...]) -> list[int | str]:
    return [int(size) if size.isdecimal() else size for size in shape]


_TEXT = {"type": "string"}
_SLOT: dict[str, Any] = {
    "anyOf": [
        {"enum": list(_SLOTS)},
        {"pattern": "^[a-z][a-z0-9_]*\\.(" + "|".join(_SLOTS).replace(".", "\\.") + ")$"},
    ],
    "type": "string",
}
_SLOT_LIST = {"type": "array", "items": _SLOT, "minItems": 1}
_SIZE_LIST = {"type": "array", "items": {"anyOf": [{"type": "integer", "minimum": 1}, _TEXT]}}

TechniqueName = Annotated[
    str, AfterValidator(_technique_name), WithJsonSchema({"type": "string", "pattern": f"^{NAME.pattern}$"})
]
Line = Annotated[str, AfterValidator(_line)]
Title = Annotated[str, StringConstraints(min_length=1), AfterValidator(_line)]
SettingField = Annotated[Setting, BeforeValidator(_setting), WithJsonSchema({"type": ["number", "string", "boolean"]})]
Slots = Annotated[tuple[str, ...], BeforeValidator(_listed), WithJsonSchema({"anyOf": [_SLOT, _SLOT_LIST]})]
Shape = Annotated[tuple[str, ...], BeforeValidator(_shape), PlainSerializer(_plain_shape), WithJsonSchema(_SIZE_LIST)]
TuneField = Annotated[
    Tune, BeforeValidator(_tune), WithJsonSchema({"anyOf": [{"enum": ["none", "all"]}, _SLOT, _SLOT_LIST]})
]
Equation = Annotated[str, AfterValidator(str.rstrip)]
