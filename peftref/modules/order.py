"""What may be merged beside what is not: a weight that changes must not change what acts beside it."""

from __future__ import annotations

from collections.abc import Sequence

from peftref.analyse.merge import FOLDS
from peftref.core.problem import fail
from peftref.design.placement import Placement
from peftref.host.site import Site
from peftref.language.expr import Name, names
from peftref.language.rewrite.output import addends, output
from peftref.modules.compile.module import Inserted
from peftref.modules.merging import STAGES

OWN = frozenset({"h", "W", "b", "g", "E"})
"""What a merged change is seen in."""


def refuse_order(acting: Sequence[tuple[Inserted, bool]], combine: str) -> None:
    """Raises PeftrefError `merge-order` where the host would compute something else than with nothing merged.

    acting: the active techniques in their order, each with whether it is merged.
    """
    for position, (merged, is_merged) in enumerate(acting):
        for other, (live, also) in enumerate(acting) if is_merged else ():
            if also:
                continue
            for mine in merged.placed:
                for theirs in live.placed:
                    if why := _clash(mine, theirs, combine, other < position):
                        text = f"{merged.name} is merged, and {live.name} {why} {theirs.site.name}"
                        raise fail("merge-order", text, hint=f"merge {live.name} first, or unmerge {merged.name}")


def _clash(merged: Placement, live: Placement, combine: str, live_first: bool) -> str | None:
    """How a live change and a merged one would be taken in the wrong order."""
    if takes_in(merged.site) != takes_in(live.site):
        return None
    if merged.site.name != live.site.name:
        inner = STAGES.get(live.site.kind, 0) == 0 < STAGES.get(merged.site.kind, 0)
        reads = frozenset().union(*(names(value) for value in live.values.values()))
        unseen = merged.site.kind == "activation" and not {"x", "W"} & (reads | set(live.values))
        return "acts within it at" if inner and not unseen else None
    if combine == "sum":
        return None if adds(live) else "reads what it changes at"
    return "acts before it at" if live_first else None


def takes_in(site: Site) -> str:
    """The name of the site whose weight takes in a change at a site."""
    return site.name.removesuffix(site.slot) + FOLDS.get(site.slot, site.slot)


def adds(placement: Placement) -> bool:
    """Whether a change is added, and made without what the host's weights give there."""
    values = placement.values
    value = output(values) if placement.site.kind == "linear" else values.get("h")
    if value is None:
        return all(Name(name) in addends(each) and len(names(each) & OWN) == 1 for name, each in values.items())
    rest = [term for term in addends(value) if term != Name("h")]
    return len(rest) < len(addends(value)) and not any(names(term) & OWN for term in rest)
