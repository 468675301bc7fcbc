"""An insertion moved to the sites at which a checkpoint stands."""

from __future__ import annotations

from collections.abc import Iterable

from peftref.design.layers import Layers
from peftref.design.technique import Insert
from peftref.host.host import Host
from peftref.host.site import Site


def moved(insert: Insert, sites: Iterable[Site], host: Host) -> tuple[Insert, ...]:
    """The insertion at these sites: one for each set of layers that some slots have in common."""
    layers: dict[str, list[int]] = {}
    crossed = {(site.stack, site.slot) for site in host.sites if site.slot.startswith("cross_attention")}
    for site in sites:
        alone = (site.stack, f"cross_{site.slot}") in crossed
        word = f"self_{site.slot}" if alone else site.slot
        word = f"{site.stack}.{word}" if len(host.stacks) > 1 else word
        layers.setdefault(word, []).extend([] if site.layer is None else [site.layer])
    alike: dict[tuple[int, ...], list[str]] = {}
    for word, numbers in layers.items():
        stack = word.partition(".")[0] if len(host.stacks) > 1 else host.stacks[0].name
        every = len(set(numbers)) in (0, host.stack(stack).n_layers)
        alike.setdefault(() if every else tuple(sorted(numbers)), []).append(word)
    return tuple(
        insert.model_copy(
            update={"at": tuple(words), "layers": Layers("list", listed=numbers) if numbers else Layers()}
        )
        for numbers, words in alike.items()
    )
