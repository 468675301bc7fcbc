"""A host written once per pattern: sites that repeat over layers stand as one entry, with {layer} in their paths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Literal

from pydantic import Field

from peftref.host.architecture import ARCHITECTURE, Form, Frozen
from peftref.host.host import Host, Stack
from peftref.host.site import Port, Rows, Site

LAYER = "{layer}"


class FoldedPort(Frozen):
    """A port; without a path it is on the site's own module."""

    side: Literal["input", "output"]
    path: str | None = None
    key: int | str = 0
    rows: Rows | None = None


class FoldedSite(Frozen):
    """A site, or one for each of the layers named; sizes are those that differ from its stack's."""

    slot: str
    layers: str | None = None
    path: str
    sizes: dict[str, int] = Field(default_factory=dict)
    ports: dict[str, FoldedPort] = Field(default_factory=dict)
    lacks: tuple[str, ...] = ()
    form: Form = "matrix"
    reads: str = ""
    tokens_first: bool = False
    remade: tuple[str, ...] = ()


class FoldedStack(Frozen):
    """A stack with its sites, in the order in which data flows."""

    name: str
    n_layers: int
    causal: bool
    sizes: dict[str, int]
    layers_path: str
    entry: str
    exit: str
    feeds: str | None = None
    sites: tuple[FoldedSite, ...]


class FoldedHost(Frozen):
    """A host in compact form."""

    parameters: int
    head_parameters: int = 0
    stacks: tuple[FoldedStack, ...]
    lacks: dict[str, str] = Field(default_factory=dict)


def fold(host: Host) -> FoldedHost:
    """The compact form of a host; `unfold` gives the host back."""
    return FoldedHost(
        parameters=host.parameters,
        head_parameters=host.head_parameters,
        stacks=tuple(_fold_stack(host, stack) for stack in host.stacks),
        lacks=dict(host.lacks),
    )


def unfold(folded: FoldedHost, name: str, model_type: str) -> Host:
    """The host of a compact form."""
    stacks = tuple(Stack(**{key: getattr(stack, key) for key in Stack.__dataclass_fields__}) for stack in folded.stacks)
    sites = tuple(site for stack in folded.stacks for site in _unfold_stack(stack))
    return Host(name, model_type, stacks, sites, folded.lacks, folded.parameters, folded.head_parameters)


def layer_text(layers: Iterable[int]) -> str:
    """Layer numbers as ranges.

    >>> layer_text([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    parts = []
    for _, run in groupby(enumerate(sorted(layers)), key=lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in run]
        parts.append(str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}")
    return ", ".join(parts)


def layer_numbers(text: str) -> tuple[int, ...]:
    """The layer numbers of a text of ranges; ValueError where it is none.

    >>> layer_numbers('0-2, 5')
    (0, 1, 2, 5)
    """
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return tuple(numbers)


def _fold_stack(host: Host, stack: Stack) -> FoldedStack:
    patterns: dict[str, FoldedSite] = {}
    layers: dict[str, list[int]] = {}
    for site in host.sites:
        if site.stack == stack.name:
            entry = _fold_site(site, stack)
            key = entry.model_dump_json()
            patterns.setdefault(key, entry)
            layers.setdefault(key, [])
            if site.layer is not None:
                layers[key].append(site.layer)
    sites = tuple(
        entry.model_copy(update={"layers": layer_text(layers[key])}) if layers[key] else entry
        for key, entry in patterns.items()
    )
    facts = {name: getattr(stack, name) for name in Stack.__dataclass_fields__}
    return FoldedStack(**{**facts, "sizes": dict(stack.sizes)}, sites=sites)


def _fold_site(site: Site, stack: Stack) -> FoldedSite:
    def pattern(path: str) -> str:
        here = f"{stack.layers_path}.{site.layer}"
        inside = site.layer is not None and (path == here or path.startswith(f"{here}."))
        return f"{stack.layers_path}.{LAYER}{path[len(here) :]}" if inside else path

    ports = {
        name: FoldedPort(
            side=port.side,
            path=None if port.path == site.path else pattern(port.path),
            key=port.key,
            rows=port.rows,
        )
        for name, port in site.ports.items()
    }
    return FoldedSite(
        slot=site.slot,
        path=pattern(site.path),
        sizes={name: size for name, size in site.sizes.items() if stack.sizes.get(name) != size},
        ports=ports,
        lacks=tuple(sorted(site.lacks)),
        form=site.form,
        reads=pattern(site.reads),
        tokens_first=site.tokens_first,
        remade=tuple(sorted(site.remade)),
    )


def _unfold_stack(stack: FoldedStack) -> Iterator[Site]:
    """The sites of a stack: what stands before the layers, layer by layer, what stands after them."""
    numbers = [layer_numbers(entry.layers) if entry.layers else () for entry in stack.sites]
    deep = [ARCHITECTURE.slot(entry.slot).component == "embedding" for entry in stack.sites]
    repeated = [position for position, layers in enumerate(numbers) if layers and not deep[position]]
    first, last = (repeated[0], repeated[-1]) if repeated else (len(stack.sites), len(stack.sites))
    for entry, depths in zip(stack.sites[:first], numbers, strict=False):
        yield from (_unfold_site(entry, stack, depth) for depth in depths or (None,))
    for layer in range(stack.n_layers):
        for position in repeated:
            if layer in numbers[position]:
                yield _unfold_site(stack.sites[position], stack, layer)
    yield from (_unfold_site(entry, stack, None) for entry in stack.sites[last + 1 :])


def _unfold_site(entry: FoldedSite, stack: FoldedStack, layer: int | None) -> Site:
    def filled(path: str) -> str:
        return path if layer is None else path.replace(LAYER, str(layer))

    return Site(
        slot=entry.slot,
        stack=stack.name,
        layer=layer,
        path=filled(entry.path),
        sizes={**stack.sizes, **entry.sizes},
        ports={name: _unfold_port(port, filled(port.path or entry.path)) for name, port in entry.ports.items()},
        lacks=frozenset(entry.lacks),
        form=entry.form,
        reads=filled(entry.reads),
        tokens_first=entry.tokens_first,
        remade=frozenset(entry.remade),
    )


def _unfold_port(port: FoldedPort, path: str) -> Port:
    return Port(path, port.side, port.key, port.rows)
