"""A leaf's init as a technique writes it: the name of a row of the table, and its arguments."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from peftref.core.problem import nearest
from peftref.design.canonical import flow
from peftref.design.inits import INITS, Argument, Init, Parameter
from peftref.design.refuse import refuse

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUANTITY = re.compile(r"(?:[a-z_]+\.)*[A-Za-z]")
_FORMS = "write init: zeros, init: {normal: 0.02}, or init: {normal: {std: 0.02, mean: 0.1}}"


@dataclass(frozen=True, slots=True)
class InitCall:
    """An init with every argument, the defaults written out, in the order of the table.

    >>> parse_init({"normal": 0.02})
    InitCall(name='normal', arguments=(('std', 0.02), ('mean', 0.0)))
    """

    name: str
    arguments: tuple[tuple[str, Argument], ...] = ()

    def __str__(self) -> str:
        """The init as a YAML file says it.

        >>> print(parse_init({"normal": {"std": 0.02, "mean": 0.0}}))
        {normal: 0.02}
        """
        return flow(plain_init(self))

    @property
    def row(self) -> Init:
        """The row of the table."""
        return INITS[self.name]

    def reads(self) -> tuple[str, ...]:
        """The quantities of the host that it reads.

        >>> parse_init("norm_rows").reads()
        ('W',)
        """
        return tuple(str(value) for name, value in self.arguments if _parameter(self.row, name).kind == "quantity")

    def leaves(self) -> tuple[str, ...]:
        """The other leaves that it reads.

        >>> parse_init({"coordinates": "P"}).leaves()
        ('P',)
        """
        return tuple(str(value) for name, value in self.arguments if _parameter(self.row, name).kind == "leaf")

    def settings(self) -> tuple[tuple[str, str], ...]:
        """The parameters that are given by a setting, each with the setting's name."""
        return tuple(
            (name, value)
            for name, value in self.arguments
            if isinstance(value, str) and _parameter(self.row, name).kind == "number"
        )

    def exact(self, settings: Mapping[str, object]) -> float | None:
        """What every number of the leaf is at the start, where that is certain.

        >>> parse_init("ones").exact({}), parse_init({"constant": "c"}).exact({"c": 0.1}), parse_init("identity").exact({})
        (1.0, 0.1, None)
        """
        if self.row.exact is not None:
            return 0.0 if self.row.exact == "zeros" else 1.0
        if self.name != "constant":
            return None
        value = self.arguments[0][1]
        found = settings.get(value) if isinstance(value, str) else value
        return float(found) if isinstance(found, int | float) else None


def _parameter(row: Init, name: str) -> Parameter:
    found = row.parameter(name)
    if found is None:
        raise KeyError(name)
    return found


def parse_init(value: object) -> InitCall:
    """The init that a YAML value stands for; raises a pydantic error `unknown-init` or `bad-value`."""
    match value:
        case InitCall():
            return value
        case str():
            return _call(value, {}, ())
        case dict() if len(value) == 1:
            ((name, given),) = value.items()
            row = INITS.get(name)
            if isinstance(given, dict):
                return _call(name, given, (name,))
            first = row.parameters[0].name if row and row.parameters else None
            return _call(name, {first: given} if first else {"value": given}, (name,), bare=True)
    raise refuse("bad-value", "this is no init", hint=_FORMS)


def _call(name: str, given: Mapping[str, object], at: tuple[str, ...], *, bare: bool = False) -> InitCall:
    row = INITS.get(name)
    if row is None:
        hint = nearest(name, INITS) or f"inits are {', '.join(INITS)}"
        raise refuse("unknown-init", f"there is no init {name}", hint=hint, at=at)
    for key in given:
        if row.parameter(key) is None:
            names = [parameter.name for parameter in row.parameters]
            hint = nearest(key, names) or (f"it takes {', '.join(names)}" if names else f"write init: {name}")
            text = f"the init {name} takes no {'value' if bare else key}"
            raise refuse("unknown-field", text, hint=hint, at=at if bare else (*at, key))
    arguments = []
    for parameter in row.parameters:
        where = at if bare or parameter.name not in given else (*at, parameter.name)
        argument = given.get(parameter.name, parameter.default)
        if argument is None:
            text = f"the init {name} needs {parameter.name}: {parameter.about}"
            example = {"quantity": "W", "leaf": "A"}.get(parameter.kind, "0.02")
            raise refuse("missing-field", text, hint=f"write init: {{{name}: {example}}}", at=at)
        arguments.append((parameter.name, _argument(name, parameter, argument, where)))
    return InitCall(name, tuple(arguments))


def _argument(init: str, parameter: Parameter, value: object, at: tuple[str, ...]) -> Argument:
    if parameter.kind == "quantity":
        if isinstance(value, str) and _QUANTITY.fullmatch(value):
            return value
        raise refuse("bad-value", f"{parameter.name} of {init} is a quantity such as W, not {value}", at=at)
    if parameter.kind == "leaf":
        if isinstance(value, str) and _NAME.fullmatch(value):
            return value
        raise refuse("bad-value", f"{parameter.name} of {init} is the name of a leaf, not {value}", at=at)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise refuse("bad-value", f"{parameter.name} of {init} is a number or the name of a setting, not {value}", at=at)


def plain_init(call: InitCall) -> str | dict[str, Any]:
    """The shortest YAML value of an init.

    >>> plain_init(parse_init({"normal": {"std": 0.02, "mean": 0.0}})), plain_init(parse_init("zeros"))
    ({'normal': 0.02}, 'zeros')
    """
    row = call.row
    given = {name: value for name, value in call.arguments if value != _parameter(row, name).default}
    if not given:
        return call.name
    first = row.parameters[0].name
    return {call.name: given[first] if list(given) == [first] else given}


def _schema() -> dict[str, Any]:
    bare = [row.name for row in INITS.values() if all(item.default is not None for item in row.parameters)]
    forms: list[dict[str, Any]] = [{"enum": bare}]
    for row in INITS.values():
        if not row.parameters:
            continue
        kinds = {item.name: {**_argument_schema(item), "description": item.about} for item in row.parameters}
        needed = [item.name for item in row.parameters if item.default is None]
        full = {"type": "object", "properties": kinds, "required": needed, "additionalProperties": False}
        one = {"anyOf": [_argument_schema(row.parameters[0]), full], "description": row.about}
        forms.append(
            {"type": "object", "properties": {row.name: one}, "required": [row.name], "additionalProperties": False}
        )
    return {"anyOf": forms}


def _argument_schema(parameter: Parameter) -> dict[str, Any]:
    return {"type": ["number", "string"]} if parameter.kind == "number" else {"type": "string"}


InitField = Annotated[InitCall, BeforeValidator(parse_init), PlainSerializer(plain_init), WithJsonSchema(_schema())]
