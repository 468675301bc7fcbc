"""Which layers of a stack an insertion goes to: all, a list, the first or last n, every n-th, or a span of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from peftref.core.problem import fail, nearest
from peftref.design.refuse import refuse

Rule = Literal["all", "list", "first", "last", "every", "span"]
_COUNTED: tuple[Rule, ...] = ("first", "last", "every")
_FORMS = "layers are all, a list such as [0, -1], {first: n}, {last: n}, {every: n} or {span: [from, to, of]}"


@dataclass(frozen=True, slots=True)
class Layers:
    """A choice of layers. `listed` holds positions, negative ones from the end; `count` a number or a setting's name.

    Of a span, `listed` holds three numbers: from where to where it goes, in equal parts of the stack, and of how many.
    """

    rule: Rule = "all"
    listed: tuple[int, ...] = ()
    count: int | str = 0

    def __str__(self) -> str:
        if self.rule == "all":
            return "all"
        if self.rule == "span":
            return "{} to {} of {} parts".format(*self.listed)
        return ", ".join(str(layer) for layer in self.listed) if self.rule == "list" else f"{self.rule} {self.count}"

    def settings(self) -> frozenset[str]:
        """The settings that the choice reads."""
        return frozenset({self.count} if isinstance(self.count, str) else ())

    def choose(self, n_layers: int, settings: Mapping[str, object]) -> tuple[int, ...]:
        """The chosen layers of a stack, in order. Raises PeftrefError `layer-absent` where the stack is too short.

        >>> Layers("last", count="n").choose(12, {"n": 2}), Layers("every", count=4).choose(12, {})
        ((10, 11), (0, 4, 8))
        >>> Layers("span", listed=(1, 3, 6)).choose(12, {})
        (2, 3, 4, 5)
        """
        if self.rule == "span":
            start, stop, parts = self.listed
            return tuple(range(n_layers * start // parts, n_layers * stop // parts))
        if self.rule == "all":
            return tuple(range(n_layers))
        if self.rule == "list":
            wrong = [layer for layer in self.listed if not -n_layers <= layer < n_layers]
            if wrong:
                shown = ", ".join(str(layer) for layer in wrong)
                raise fail("layer-absent", f"there is no layer {shown}: the stack has {n_layers}, counted from 0")
            return tuple(sorted({layer % n_layers for layer in self.listed}))
        count = self._count(settings)
        if self.rule == "every":
            return tuple(range(0, n_layers, count))
        if count > n_layers:
            raise fail("layer-absent", f"the {self.rule} {count} layers are asked for, and the stack has {n_layers}")
        return tuple(range(count)) if self.rule == "first" else tuple(range(n_layers - count, n_layers))

    def _count(self, settings: Mapping[str, object]) -> int:
        count = settings.get(self.count) if isinstance(self.count, str) else self.count
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise fail("setting-size", f"the number of layers, {self.count}, must be a whole number of at least 1")
        return count


def parse_layers(value: object) -> Layers:
    """The choice that a YAML value stands for; raises a pydantic error.

    >>> parse_layers({"last": 2})
    Layers(rule='last', listed=(), count=2)
    """
    match value:
        case Layers():
            return value
        case "all":
            return Layers()
        case list() | tuple() if value:
            for position, layer in enumerate(value):
                if not isinstance(layer, int) or isinstance(layer, bool):
                    raise refuse("bad-value", f"a layer is a whole number, not {layer!r}", hint=_FORMS, at=(position,))
            return Layers("list", tuple(value))
        case dict() if len(value) == 1:
            ((rule, count),) = value.items()
            if rule == "span":
                return _span(count)
            if rule not in _COUNTED:
                hint = nearest(str(rule), _COUNTED) or _FORMS
                raise refuse("unknown-field", f"there is no choice of layers named {rule}", hint=hint, at=(rule,))
            if isinstance(count, bool) or not isinstance(count, int | str) or (isinstance(count, int) and count < 1):
                text = f"{rule} takes a whole number of at least 1 or the name of a setting"
                raise refuse("bad-value", text, at=(rule,))
            return Layers(rule, count=count)
    raise refuse("bad-value", "this is no choice of layers", hint=_FORMS)


def _span(value: object) -> Layers:
    match value:
        case [int(start), int(stop), int(parts)] if 0 <= start < stop <= parts:
            return Layers("span", (start, stop, parts))
    text = "span takes three whole numbers: from where, to where, and of how many equal parts"
    raise refuse("bad-value", text, hint="{span: [0, 1, 4]} is the first quarter", at=("span",))


def plain_layers(layers: Layers) -> str | list[int] | dict[str, int | str | list[int]]:
    """The YAML value of a choice.

    >>> plain_layers(Layers("first", count="n"))
    {'first': 'n'}
    """
    if layers.rule == "all":
        return "all"
    if layers.rule == "span":
        return {"span": list(layers.listed)}
    if layers.rule == "list":
        return list(layers.listed)
    return {layers.rule: layers.count}


def _schema() -> dict[str, Any]:
    count = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}
    one = [
        {"type": "object", "properties": {rule: count}, "required": [rule], "additionalProperties": False}
        for rule in _COUNTED
    ]
    listed = {"type": "array", "items": {"type": "integer"}, "minItems": 1}
    three = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 3, "maxItems": 3}
    span = {"type": "object", "properties": {"span": three}, "required": ["span"], "additionalProperties": False}
    return {"anyOf": [{"const": "all"}, listed, *one, span]}


LayersField = Annotated[Layers, BeforeValidator(parse_layers), PlainSerializer(plain_layers), WithJsonSchema(_schema())]
