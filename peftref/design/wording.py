"""What pydantic found wrong with a document, in the user's words: a problem with its place, caret and hint for each."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from peftref.core.problem import PeftrefError, Place, Problem, in_order, nearest
from peftref.design.yaml_document import Document, Path

M = TypeVar("M", bound=BaseModel)

_WANTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping, NAME: VALUE",
    "mapping_type": "a mapping, NAME: VALUE",
    "model_type": "a mapping, FIELD: VALUE",
    "model_attributes_type": "a mapping, FIELD: VALUE",
}
_MOST_SHOWN = 40


def validate(model: type[M], document: Document, what: str) -> M:
    """The model that a document describes; `what` names it, "a technique". Raises PeftrefError with every problem.

    Codes: `missing-field`, `unknown-field`, `bad-value`, and those of the model's own validators.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        found: list[dict[str, Any]] = [dict(item) for item in error.errors(include_url=False)]
    misspelt = {(*item["loc"][:-1], _meant(model, item["loc"])) for item in found if item["type"] == "extra_forbidden"}
    told = [item for item in found if not (item["type"] == "missing" and item["loc"] in misspelt)]
    raise PeftrefError(sorted((_problem(model, document, what, item) for item in told), key=in_order))


def _meant(model: type[BaseModel], path: Path) -> str:
    """The field that an unknown one is nearest to: where that one is missing, the two are one mistake."""
    close = difflib.get_close_matches(str(path[-1]), list(_fields(model, path[:-1])), n=1, cutoff=0.6)
    return close[0] if close else ""


def _problem(model: type[BaseModel], document: Document, what: str, error: Mapping[str, Any]) -> Problem:
    kind, context = str(error["type"]), error.get("ctx") or {}
    loc: Path = tuple(error["loc"])
    on_key = loc[-1:] == ("[key]",)
    path = loc[:-1] if on_key else loc
    if "at" in context and "text" in context:
        part = (*path, *context["at"])
        on_key = on_key or (bool(context["at"]) and kind.startswith(("unknown", "missing")))
        return Problem(kind, context["text"], _place(document, part, on_key), hint=context["hint"])
    if kind == "extra_forbidden":
        known = _fields(model, path[:-1])
        text = f"there is no field {path[-1]} in {_named(path[:-1], what)}"
        hint = nearest(str(path[-1]), known) or (f"it has {', '.join(known)}" if known else None)
        return Problem("unknown-field", text, document.key(*path), hint=hint)
    if kind == "missing":
        field = _fields(model, path[:-1]).get(str(path[-1]), "")
        text = f"{_named(path[:-1], what)} needs the field {path[-1]}"
        notes = (f"{path[-1]}: {field}",) if field else ()
        return Problem("missing-field", text, _place(document, path[:-1], True), notes)
    return _bad_value(document, path, what, error)


def _bad_value(document: Document, path: Path, what: str, error: Mapping[str, Any]) -> Problem:
    kind, context, given = str(error["type"]), error.get("ctx") or {}, error.get("input")
    name, place = _named(path, what), document.place(*path)
    hint = None
    if kind in _WANTED:
        text = f"{name} must be {_WANTED[kind]}, not {_shown(given)}"
        if kind == "string_type" and isinstance(given, bool | int | float):
            hint = "write it in quotes"
    elif kind == "literal_error":
        choices = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        text = f"{name} must be {' or '.join([', '.join(choices[:-1]), choices[-1]] if choices[1:] else choices)}"
        text += f", not {_shown(given)}"
        hint = nearest(str(given), choices)
    elif kind in ("too_short", "string_too_short"):
        text = f"{name} must not be empty"
    elif kind == "string_pattern_mismatch":
        text = f"{name} does not have the form that it must have"
        hint = f"its pattern is {context['pattern']}"
    else:
        text = f"{name}: {error['msg'][:1].lower()}{error['msg'][1:]}"
    return Problem("bad-value", text, place, hint=hint)


def _place(document: Document, path: Path, on_key: bool) -> Place:
    return document.key(*path) if on_key and path else document.place(*path)


def _named(path: Path, what: str) -> str:
    """A part of the document as users write it: `leaves.A`, `insert 1`, `item 2 of at`."""
    if not path:
        return what
    last = max((position for position, step in enumerate(path) if isinstance(step, int)), default=-1)
    if last == len(path) - 1 and last > 0:
        parent, number = path[last - 1], int(path[last]) + 1
        return f"{parent} {number}" if parent == "insert" else f"item {number} of {parent}"
    return ".".join(str(step) for step in path[last + 1 :])


def _shown(value: object) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = str(value).replace("\n", " ")
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."


def _fields(model: type[BaseModel], path: Path) -> dict[str, str]:
    """The fields of the model at a path below another, each with its description."""
    here: Any = model
    for step in path:
        here = _inner(
            here.model_fields[step].annotation if _is_model(here) and step in here.model_fields else here, step
        )
    if not _is_model(here):
        return {}
    return {name: field.description or "" for name, field in here.model_fields.items()}


def _inner(annotation: Any, step: str | int) -> Any:
    """What a step into a value of an annotation leads to: an item, a value of a mapping, or the value itself."""
    while not _is_model(annotation):
        origin, args = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is typing.Annotated:
            annotation = args[0]
        elif origin in (typing.Union, types.UnionType):
            annotation = next((arg for arg in args if arg is not type(None)), None)
        elif origin in (tuple, list) and isinstance(step, int):
            return _inner(args[0], "")
        elif origin in (tuple, list):
            return annotation
        elif isinstance(origin, type) and issubclass(origin, Mapping):
            return annotation if step in ("", None) else _unwrapped(args[-1])
        else:
            return annotation
    return annotation


def _unwrapped(annotation: Any) -> Any:
    return _inner(annotation, "")


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
