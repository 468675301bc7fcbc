"""What adapters calls things, read from the catalog: its types of config, and where it keeps a module in each family."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml
from pydantic import Field

from peftref.core.data import data_folder
from peftref.core.problem import fail
from peftref.host.architecture import Frozen
from peftref.host.host import Host
from peftref.host.site import Site

LIBRARY = "adapters"
_HOLE = re.compile(r"<([a-z_.]+)>")


class Type(Frozen):
    """A type of config: the slots at which one insertion may stand, where it keeps it, and its fields with their defaults.

    slots: groups of slots that one insertion may go to. holders, gates: the modules there, by slot. flags, lists: fields that
    say whether it stands at some slots. left_out, chosen: the field that lists the layers without it, or with it.
    """

    architecture: str | None = None
    slots: tuple[tuple[str, ...], ...]
    holders: dict[str, str]
    gates: dict[str, str] = Field(default_factory=dict)
    flags: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    lists: dict[str, dict[str, tuple[str, ...]]] = Field(default_factory=dict)
    left_out: str | None = None
    chosen: str | None = None
    ignored: tuple[str, ...] = ()
    fields: dict[str, Any]

    @property
    def known(self) -> frozenset[str]:
        """The slots at which adapters says where it stands; it goes to others by itself."""
        return frozenset(slot for group in self.slots for slot in group)

    @property
    def stands(self) -> frozenset[str]:
        """The fields that say where it stands."""
        return frozenset((*self.flags, *self.lists, *(name for name in (self.left_out, self.chosen) if name)))


class Family(Frozen):
    """A family of hosts: the prefix of its backbone, paths of slots that differ from the host's own, and flags that differ."""

    base: str
    paths: dict[str, str] = Field(default_factory=dict)
    flags: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class Library(Frozen):
    """All that is known of adapters."""

    library: str
    version: str
    types: dict[str, Type]
    families: dict[str, Family]

    def type(self, architecture: str | None) -> str | None:
        """The type of an architecture, as configs name it; None where there is none."""
        return next((name for name, each in self.types.items() if each.architecture == architecture), None)

    def family(self, host: Host) -> Family:
        """The family of a host. Raises PeftrefError `no-peer` where adapters has none."""
        found = self.families.get(host.model_type)
        if found is None:
            known = ", ".join(self.families)
            raise fail(
                "no-peer", f"where adapters keeps things in {host.model_type} is not known", hint=f"known: {known}"
            )
        return found


@cache
def library() -> Library:
    """What the catalog says of adapters."""
    text = (data_folder("catalog") / "peers" / f"{LIBRARY}.yaml").read_text(encoding="utf-8")
    return Library.model_validate(yaml.safe_load(text))


def slot_names(site: Site, host: Host) -> tuple[str, ...]:
    """A site's slot as fields and paths name it, with its stack in front first where the host has several."""
    return (f"{site.stack}.{site.slot}", site.slot) if len(host.stacks) > 1 else (site.slot,)


def holder(kind: Type, host: Host, site: Site, name: str, *, gate: bool = False) -> str | None:
    """The module in which adapters keeps an insertion of a type at a site, within the backbone; None where it has none."""
    family = library().family(host)
    known = kind.gates if gate else kind.holders
    pattern = next((known[each] for each in slot_names(site, host) if each in known), None)
    if pattern is None or (site.kind == "linear" and site.ports["h"].rows is not None):
        return None
    missing = False

    def path(match: re.Match[str]) -> str:
        nonlocal missing
        word = match.group(1)
        found = name if word == "name" else _path(family, host, site, word)
        missing |= found is None
        return found or ""

    made = _HOLE.sub(path, pattern)
    return None if missing else made


def _path(family: Family, host: Host, site: Site, slot: str) -> str | None:
    """The path of a slot in the layer of a site: as the family lists it, else the host's own."""
    for word in (f"{site.stack}.{slot}", slot):
        if word in family.paths:
            return family.paths[word].format(stack=site.stack, layer=site.layer)
    if slot != site.slot or site.kind in ("sequence", "norm") or (site.kind == "sublayer" and slot != "layer"):
        return None
    return site.path.removeprefix(f"{family.base}.")


def layer_number(site: Site, host: Host) -> int | None:
    """The number of a site's layer as adapters counts: through all stacks."""
    if site.layer is None:
        return None
    before = 0
    for stack in host.stacks:
        if stack.name == site.stack:
            return before + site.layer
        before += stack.n_layers
    return None


def standing(kind: Type, family: Family, site: Site, host: Host, fields: dict[str, Any]) -> bool:
    """Whether a module with some fields stands at a site, if its technique could."""
    number, names = layer_number(site, host), slot_names(site, host)
    if number is not None and kind.left_out and number in fields[kind.left_out]:
        return False
    if number is not None and kind.chosen and fields[kind.chosen] != "all" and number not in fields[kind.chosen]:
        return False
    return all(flag for flag in _flags(kind, family, names, fields))


def _flags(kind: Type, family: Family, names: tuple[str, ...], fields: dict[str, Any]) -> Iterator[bool]:
    for field, slots in (kind.flags | {key: value for key, value in family.flags.items() if key in kind.flags}).items():
        if set(names) & set(slots):
            yield bool(fields[field])
    for field, words in kind.lists.items():
        for word, slots in words.items():
            if set(names) & set(slots):
                yield word in fields[field]
