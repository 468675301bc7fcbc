"""What may be merged beside what is not: a weight that changes must not change what acts beside it."""

from __future__ import annotations

from collections.abc import Sequence

from peftref.analyse.merge import takes_in
from peftref.core.problem import fail
from peftref.design.placement import Placement
from peftref.language.expr import Name, names
from peftref.language.rewrite.output import addends, output
from peftref.modules.compile.module import Inserted
from peftref.modules.folds import stage

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
    reads = frozenset().union(*(names(value) for value in live.values.values()))
    if merged.site.name != live.site.name:
        if _taken_in(merged) != _taken_in(live):
            return None
        inner = stage(live) == 0 < stage(merged)
        unseen = stage(merged) == 1 and not {"x", "W"} & (reads | set(live.values))
        return "acts within it at" if inner and not unseen else None
    if merged.site.kind == "core" and not merged.values.keys() & (reads | live.values.keys()):
        return None
    if combine == "sum" and merged.site.kind != "core":
        return None if adds(live) else "reads what it changes at"
    if stage(merged) == 1:
        return None if live_first else "acts after it at"
    return "acts before it at" if live_first else None


def _taken_in(placement: Placement) -> str:
    """The name of the site whose weight takes in a change at a site."""
    site = placement.site
    return site.name.removesuffix(site.slot) + takes_in(site.slot, placement.values)


def adds(placement: Placement) -> bool:
    """Whether a change is added, and made without what the host's weights give there."""
    values = placement.values
    value = output(values) if placement.site.kind == "linear" else values.get("h")
    if value is None:
        return all(Name(name) in addends(each) and len(names(each) & OWN) == 1 for name, each in values.items())
    rest = [term for term in addends(value) if term != Name("h")]
    return len(rest) < len(addends(value)) and not any(names(term) & OWN for term in rest)
