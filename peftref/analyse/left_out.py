"""What a technique leaves out on a host, and what it adds there that the host has none of: sentences beside its counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from peftref.analyse.merge import Blocked, merge_rule
from peftref.design.insertion import insertions
from peftref.design.placement import Placement
from peftref.design.technique import Technique
from peftref.host.host import Host
from peftref.language.expr import Name, Number, names, substitute
from peftref.language.rewrite.simplify import simplify

WORDS = {"b": "bias", "E": "embedding matrix"}
"""The quantities that a host may lack, in words."""


def left_out(technique: Technique, host: Host, placed: Iterable[Placement]) -> tuple[str, ...]:
    """One sentence for each thing: insertions, leaves and quantities that this host has no place for, and biases that are new.

    placed: where the technique stands on the host.

    >>> from peftref.design.load import load
    >>> from peftref.design.placement import placements
    >>> from peftref.host.locate.resolve import resolve
    >>> host = resolve("llama-3.2-1b")
    >>> left_out(load("layernorm"), host, placements(load("layernorm"), host))
    ('db is left out: attention.norm, ffn.norm, final.norm have no bias',)
    """
    placed = tuple(placed)
    return (*_insertions(technique, placed), *_quantities(placed), *_biases(placed))


def _insertions(technique: Technique, placed: tuple[Placement, ...]) -> Iterator[str]:
    """Optional insertions that stand nowhere."""
    there = {placement.insertion for placement in placed}
    for insertion in insertions(technique):
        if insertion.optional and insertion not in there:
            yield f"what stands at {', '.join(insertion.at)} is left out: the host has no such slot"


def _quantities(placed: tuple[Placement, ...]) -> Iterator[str]:
    """Leaves, or changes without one, that are read for a quantity which a site lacks, and are left out with it."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for placement in placed:
        kept = {leaf.name for leaf in placement.leaves}
        before = placement.insertion.effects[placement.site.slot].values
        for quantity in before.keys() - placement.values.keys():
            alone = [
                name for name in placement.insertion.leaves if name in names(before[quantity]) and name not in kept
            ]
            found.setdefault((", ".join(alone) or f"{quantity}'", WORDS[quantity]), {})[placement.site.slot] = None
    for (what, lacking), slots in found.items():
        yield f"{what} {'are' if ', ' in what else 'is'} left out: {_have(slots)} no {lacking}"


def _biases(placed: tuple[Placement, ...]) -> Iterator[str]:
    """Sites that have no bias, where an equation adds one."""
    found: dict[str, None] = {}
    known: dict[tuple[int, str], bool] = {}
    for placement in placed:
        site = placement.site
        key = id(placement.insertion), site.slot
        if "b" in site.lacks and site.kind in ("linear", "norm"):
            known.setdefault(key, _adds(placement))
            found |= {site.slot: None} if known[key] else {}
    if found:
        yield f"the host has no bias at {', '.join(found)}: one of the technique's own is added and counted there"


def _adds(placement: Placement) -> bool:
    """Whether the bias that a placement makes is something where the host's own is zero."""
    rule = merge_rule(placement.insertion, placement.effect)
    dropped = "b" in placement.effect.values and "b" not in placement.values
    if isinstance(rule, Blocked) or dropped or "b" not in rule.values:
        return False
    return simplify(substitute(rule.values["b"], {"b": Number(0)})) not in (Number(0), Name("b"))


def _have(slots: Iterable[str]) -> str:
    named = tuple(slots)
    return f"{', '.join(named)} {'has' if len(named) == 1 else 'have'}"
