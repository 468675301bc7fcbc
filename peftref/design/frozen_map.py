"""A mapping that cannot change, keeps its order, and can be hashed, pickled and copied."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, TypeVar

from pydantic import AfterValidator, PlainSerializer

from peftref.design.refuse import refuse

V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class FrozenMap(Mapping[str, V_co]):
    """Names to values, in the order in which they were written; equal to any mapping with the same items.

    >>> FrozenMap({"r": 8}) == {"r": 8}, hash(FrozenMap({"a": 1, "b": 2})) == hash(FrozenMap({"b": 2, "a": 1}))
    (True, True)
    """

    __slots__ = ("_items",)
    _items: dict[str, V_co]

    def __init__(self, items: Mapping[str, V_co] | Iterable[tuple[str, V_co]] = ()) -> None:
        object.__setattr__(self, "_items", dict(items))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a FrozenMap cannot change")

    def __getitem__(self, name: str) -> V_co:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self.items()))

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[type[FrozenMap[V_co]], tuple[dict[str, V_co]]]:
        return (type(self), (dict(self),))


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
