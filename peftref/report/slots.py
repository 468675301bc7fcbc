"""The reference architecture of a host: every slot that it has, where, how wide, and what it lacks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from peftref.host.architecture import ARCHITECTURE
from peftref.host.host import Host, Stack
from peftref.host.site import Rows, Site

if TYPE_CHECKING:
    from rich.tree import Tree

STORED = {"transposed": "stored transposed", "table": "one row for each token id", "convolution": "a convolution"}
"""What is said of a weight that is not stored as it is read."""


def slots_rows(host: Host) -> list[dict[str, object]]:
    """One row for every slot of every range of equal layers, for a program."""
    return [
        {
            "stack": sites[0].stack,
            "layers": None if sites[0].layer is None else [site.layer for site in sites],
            "slot": sites[0].slot,
            "kind": sites[0].kind,
            "path": _pattern(sites),
            "sizes": dict(sites[0].sizes),
            "rows": _rows(sites[0]),
            "lacks": sorted(sites[0].lacks),
        }
        for stack in host.stacks
        for sites in _groups(host, stack)
    ]


def slots_view(host: Host) -> Tree:
    """The host drawn as a tree: stacks, components in the order in which data flows, slots with paths and sizes."""
    from rich.markup import escape
    from rich.tree import Tree

    head = f" and a head of {host.head_parameters:,}" if host.head_parameters else ""
    root = Tree(f"[bold]{escape(host.name)}[/] ({escape(host.model_type)}): {host.parameters:,} parameters{head}")
    for stack in host.stacks:
        feeds = f", read by {stack.feeds}" if stack.feeds else ""
        looks = "looks back" if stack.causal else "looks both ways"
        sizes = ", ".join(f"{name} {value:,}" for name, value in stack.sizes.items() if name != "n_layers")
        branch = root.add(f"[bold]{escape(stack.name)}[/]: {stack.n_layers} layers, {looks}{feeds}; {escape(sizes)}")
        for component in ARCHITECTURE.components:
            groups = [
                sites for sites in _groups(host, stack) if ARCHITECTURE.slot(sites[0].slot).component == component.name
            ]
            if not groups:
                continue
            inner = branch.add(f"[bold]{escape(component.name)}[/]: {escape(component.about)}")
            for sites in groups:
                inner.add(_line(sites, stack))
    if host.lacks:
        lacking = root.add("[bold]lacks[/]")
        reasons: dict[str, list[str]] = {}
        for slot, reason in host.lacks.items():
            reasons.setdefault(reason, []).append(slot)
        for reason, slots in reasons.items():
            lacking.add(f"{escape(', '.join(slots))}: {escape(reason)}")
    if host.left_out:
        unfollowed = root.add("[bold]not followed[/]: inputs with which the model could not be run")
        for name, why in host.left_out.items():
            unfollowed.add(f"{escape(name)}: {escape(why)}")
    return root


def _line(sites: Sequence[Site], stack: Stack) -> str:
    from rich.markup import escape

    site = sites[0]
    words = [f"[cyan]{escape(site.slot)}[/]", escape(_pattern(sites))]
    if "d_out" in site.sizes and site.kind == "linear":
        words.append(f"{site.sizes['d_in']:,} -> {site.sizes['d_out']:,}")
    rows = _rows(site)
    words += [f"rows {escape(rows)}"] if rows else []
    words += [STORED[site.form]] if site.form in STORED else []
    words += [f"no {', '.join(sorted(site.lacks))}"] if site.lacks else []
    if site.layer is not None and (len(sites) < stack.n_layers or not site.within):
        words.append(
            f"{'layers' if site.within else 'depth'} {_ranges([site.layer for site in sites if site.layer is not None])}"
        )
    return "  ".join(words)


def _groups(host: Host, stack: Stack) -> Iterator[list[Site]]:
    """The sites of a stack, equal ones of different layers together, in the order in which data flows."""
    groups: dict[tuple[object, ...], list[Site]] = {}
    order = {name: position for position, name in enumerate(ARCHITECTURE.names())}
    for site in host.sites:
        if site.stack == stack.name:
            sizes = tuple(sorted(site.sizes.items()))
            key = (site.slot, _pattern([site]), sizes, _rows(site), site.lacks, site.form, site.layer is None)
            groups.setdefault(key, []).append(site)
    return iter(sorted(groups.values(), key=lambda sites: (order[sites[0].slot], sites[0].layer or 0)))


def _pattern(sites: Sequence[Site]) -> str:
    """The module path, with the layer's number left open."""
    site = sites[0]
    path = site.path or "(the model itself)"
    return path if site.layer is None else re.sub(rf"(?<=\.){site.layer}(?=\.|$)", "{layer}", path, count=1)


def _rows(site: Site) -> str:
    rows: Rows | None = site.ports["h"].rows if "h" in site.ports else None
    if rows is None:
        return ""
    axes = [f"{rows.start}:{rows.stop}" if axis == rows.axis else ":" for axis in range(len(rows.shape))]
    shape = "" if len(rows.shape) == 1 else f" of {' x '.join(map(str, rows.shape))}"
    return f"[{', '.join(axes)}]{shape}"


def _ranges(layers: Sequence[int]) -> str:
    """Layers as ranges.

    >>> _ranges([0, 1, 2, 5])
    '0-2, 5'
    """
    found: list[list[int]] = []
    for layer in layers:
        if found and layer == found[-1][-1] + 1:
            found[-1].append(layer)
        else:
            found.append([layer])
    return ", ".join(str(each[0]) if len(each) == 1 else f"{each[0]}-{each[-1]}" for each in found)
