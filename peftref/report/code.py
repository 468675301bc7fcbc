"""The torch code that is generated for a technique on a host, as text; torch itself is not needed to print it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.analyse.group import groups
from peftref.design.placement import placements
from peftref.design.technique import Technique
from peftref.host.locate.resolve import resolve
from peftref.modules.compile.site_source import alone_plan, site_plan

if TYPE_CHECKING:
    from peftref.host.locate.resolve import HostLike


def code_of(technique: Technique, host: HostLike) -> str:
    """Every distinct class that the technique becomes on a host, with the sites that it serves."""
    there = resolve(host)
    texts: dict[str, list[str]] = {}
    for group in groups(technique, placements(technique, there)):
        plan, alone = site_plan(technique, group[0]), alone_plan(technique, group[0])
        texts.setdefault(plan.source().text, []).extend(each.site.name for each in group)
        if alone is not None:
            texts.setdefault(alone.source().text, []).extend(
                f"{each.site.name} where nothing else acts" for each in group
            )
    if not texts:
        return f"# {technique.name} adds no module: it trains parameters of the host itself\n"
    parts = []
    for text, sites in texts.items():
        where = sites[0] if len(sites) == 1 else f"{sites[0]} and {len(sites) - 1} more"
        parts.append(f"# at {where}\n{text}")
    return "\n\n".join(parts)
