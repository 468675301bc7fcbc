"""What a training step costs beside one of the frozen host, counted, and what it is that makes it dearer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from peftref.analyse.cost import Costs
from peftref.host.host import Host
from peftref.host.site import Site
from peftref.language.rewrite.cost import FLOPS_PER_ELEMENT, Cost

WRITTEN = {
    "linear": ("d_out",), "norm": ("d_model",), "activation": ("d_ff",), "core": ("n_heads", "d_value"),
    "sublayer": ("d_model",),
}  # fmt: skip
"""How many numbers the host writes for a token at each kind of site, as a product of sizes."""


@dataclass(frozen=True, slots=True)
class Share:
    """A reason why a step takes longer than one of the frozen host, and by what share of that one's."""

    share: float
    reason: str


def shares(host: Host, costs: Costs, parts: Iterable[tuple[str, int, Cost, bool]]) -> tuple[Share, ...]:
    """The reasons, largest first, nothing left out; operations and numbers written are weighed as the compiler weighs them.

    parts: of each computed value its slot, at how many sites, what one costs, and whether a matrix as large as the weight learns.
    """
    tokens = costs.batch * costs.length
    flops = (costs.host_forward + costs.host_bottom) * tokens
    whole = flops + FLOPS_PER_ELEMENT * 2 * tokens * sum(map(_written, host.sites))
    found, own = [], 0
    for slot, sites, cost, learns in parts:
        own += sites * (cost.flops + cost.backward)
        operations = sites * (cost.flops + cost.backward) / whole
        written = sites * FLOPS_PER_ELEMENT * cost.elements / whole
        reason = f"{slot}: {operations:+.2f} by operations, {written:+.2f} by numbers written"
        found.append(
            Share(operations + written, reason + (", a matrix as large as the weight has a gradient" if learns else ""))
        )
    rest = ((costs.forward + costs.backward) * tokens - own) / whole
    spared = (costs.host_backward - costs.host_bottom) * tokens / whole
    found += [Share(rest, _why(costs)), Share(spared, "back-propagation stops above the bottom")]
    return tuple(sorted(found, key=lambda each: -each.share))


def _why(costs: Costs) -> str:
    """What makes the host itself work more, or less."""
    if costs.extra_tokens:
        return f"the sequence grows by {costs.extra_tokens} tokens, which every layer works on"
    if costs.extra_keys:
        return f"attention sees {costs.extra_keys} keys and values more"
    return "gradients of the host's own weights"


def _written(site: Site) -> int:
    sizes = WRITTEN.get(site.kind, ())
    return prod(site.sizes[size] for size in sizes) if sizes and all(size in site.sizes for size in sizes) else 0
