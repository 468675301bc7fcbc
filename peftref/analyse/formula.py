"""How many parameters a technique trains, as a formula of any host's sizes: no host is needed."""

from __future__ import annotations

from collections.abc import Iterator

from peftref.design.insertion import Insertion, insertions
from peftref.design.layers import Layers
from peftref.design.technique import Technique
from peftref.host.architecture import ARCHITECTURE, GROUPS, slots_of
from peftref.language.read_size import parse_size
from peftref.language.scope import Leaf
from peftref.language.size import Size

ONCE = ("embedding", "final", "head")
"""Components that a stack has once, not in every layer."""


def formula(technique: Technique) -> str:
    """The trained parameters in one stack with as many key heads as query heads, together as wide as the stack; no task head.

    What goes to all slots of a kind is told for one of them, since hosts have them in different numbers.

    >>> from peftref.design.load import load
    >>> formula(load("lora")), formula(load("bitfit"))
    ('4 * d_model * n_layers * r', 'd_out at each linear slot, d_model at each norm slot')
    """
    parts = formula_parts(technique)
    return ", ".join(f"{size.show()} at each {word} slot" if word else size.show() for word, size in parts)


def formula_parts(technique: Technique) -> tuple[tuple[str, Size], ...]:
    """The parts of the formula: what stands in named slots, under no word, and what goes to each slot of a kind, under its word."""
    named = Size.of(0)
    grouped: dict[str, Size] = {}
    counted: set[str] = set()
    for insertion in insertions(technique):
        for leaf in insertion.leaves.values():
            if not leaf.trainable or leaf.name in counted:
                continue
            counted |= {leaf.name} if leaf.scope == "design" else set()
            for word, size in _terms(leaf, insertion):
                if word in GROUPS:
                    grouped[word] = grouped.get(word, Size.of(0)) + size
                else:
                    named = named + size
    if technique.tune == "all":
        named = named + Size.symbol("host")
    elif technique.tune != "none":
        grouped |= {word: _own(word) for word in technique.tune}
    shown = [("", named)] if named != Size.of(0) or not grouped else []
    return (*shown, *grouped.items())


def _terms(leaf: Leaf, insertion: Insertion) -> Iterator[tuple[str, Size]]:
    """What a leaf adds by the words of `at`: one copy for each site, layer, slot or in all."""
    words = insertion.at if leaf.scope in ("site", "slot") else insertion.at[:1]
    for word in words:
        slot = slots_of(word)[0]
        size = leaf.count().substitute(_roles(slot, own=word not in GROUPS))
        inside = ARCHITECTURE.slot(slot).component not in ONCE
        if leaf.scope in ("site", "layer") and inside and word not in GROUPS:
            size = size * _many(insertion.layers)
        yield word, size


def _roles(slot: str, *, own: bool) -> dict[str, Size]:
    """The widths at a slot in the sizes of its stack; those of linear slots in general are left as they are."""
    kind = ARCHITECTURE.kind(ARCHITECTURE.slot(slot).kind)
    d_head = Size.symbol("d_model") / Size.symbol("n_heads")
    same = {"n_kv_heads": Size.symbol("n_heads"), "d_head": d_head, "d_value": d_head}
    if kind.name != "linear":
        width = Size.symbol(next(each.shape[-1] for each in kind.quantities if each.name in ("h", "o")))
        return {**same, "d_in": width, "d_out": width}
    widths = ARCHITECTURE.slot(slot).sizes if own else {}
    return same | {name: parse_size(text).substitute(same) for name, text in widths.items()}


def _many(layers: Layers) -> Size:
    """How many layers are chosen."""
    if layers.rule == "span":
        start, stop, parts = layers.listed
        return Size.symbol("n_layers") * Size.of(stop - start) / Size.of(parts)
    if layers.rule in ("all", "every"):
        every = Size.symbol("n_layers")
        return every if layers.rule == "all" else every / _number(layers.count)
    return Size.of(len(layers.listed)) if layers.rule == "list" else _number(layers.count)


def _number(count: int | str) -> Size:
    return Size.symbol(count) if isinstance(count, str) else Size.of(count)


def _own(word: str) -> Size:
    """The host's own parameters at a slot."""
    total = Size.of(0)
    for quantity in ARCHITECTURE.kind(ARCHITECTURE.slot(slots_of(word)[0]).kind).quantities:
        if quantity.per == "none":
            size = Size.of(1)
            for dim in quantity.shape:
                size = size * Size.symbol(dim)
            total = total + size
    return total
