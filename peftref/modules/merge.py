"""Merging techniques into their host and taking them out again, all of them together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from peftref.core.interrupts import uninterrupted
from peftref.core.problem import fail
from peftref.modules.container import container, inserted
from peftref.modules.folds import folds
from peftref.modules.merging import Merging

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def merge(model: PreTrainedModel, names: Iterable[str], *, untie: bool = False, keep: bool = True) -> None:
    """Carries techniques into the host's own weights: the host computes the same as before, at its own cost.

    The same up to rounding, once for each weight: a relative 1e-5 of the largest output in single precision, 2e-2 in bfloat16.
    Weights are changed one after the other; beside the host, memory holds their original values, in their own type, and one
    matrix. keep: False lets go of the original values: the techniques are taken off, and the host stays merged for good.
    untie: a weight that the host uses in several places, of which a technique changes some, is given to these as their own until it
    is unmerged; the config says so then. Raises PeftrefError `detached`, `not-mergeable` with every reason, `tied-weight` for such a
    weight, `few-bits` for one of 4 or 8 bits, `merge-order` where the host would compute something else beside the techniques
    that are not merged, and `merge-for-good` for a technique that does not act, or beside others that can still be unmerged;
    nothing is changed then, nor where it is interrupted.
    """
    modules, wanted = container(model), tuple(names)
    for name in wanted:
        folds(inserted(model, name))
    if not keep:
        _for_good(model, wanted, untie or bool(modules.untie.intersection(wanted)))
        return
    both = modules.untie | (frozenset(wanted) if untie else frozenset())
    settle(model, [*modules.merged, *(name for name in wanted if name not in modules.merged)], both)


def settle(model: PreTrainedModel, merged: Iterable[str], untie: frozenset[str]) -> None:
    """Makes some techniques the merged ones, or leaves everything as it is where that cannot be or is interrupted."""
    modules = container(model)
    modules.refuse_chosen()
    before = modules.merged, modules.untie
    modules.merged, modules.untie = tuple(merged), untie
    try:
        modules.refuse_order()
        with uninterrupted():
            modules.put_trained(model)
        modules.put_merged(model)
    except BaseException:
        with uninterrupted():
            modules.merged, modules.untie = before
            modules.settle(model)
        raise


def _for_good(model: PreTrainedModel, wanted: tuple[str, ...], untie: bool) -> None:
    """Merges techniques that act, takes them off, and keeps nothing of what was before."""
    modules = container(model)
    modules.refuse_chosen()
    others = [name for name in modules.merged if name not in wanted]
    idle = [name for name in wanted if name not in modules.active or not modules.enabled]
    if others or idle:
        text = f"{others[0]} can still be unmerged" if others else f"{idle[0]} is not active"
        hint = (
            "unmerge it first, or merge it for good too" if others else "make it active with set_active, and enable it"
        )
        raise fail("merge-for-good", f"{', '.join(wanted)} cannot be merged for good: {text}", hint=hint)
    settle(model, (), frozenset())
    before = modules.merged
    try:
        modules.merged = wanted
        modules.refuse_order()
    finally:
        modules.merged = before
    merging = Merging(model, modules.combine)
    for name in modules.active:
        if name in wanted:
            merging.add(inserted(model, name))
    merging.refuse(untie, sure=True)
    with uninterrupted():
        merging.write(lambda name: None, modules.ties, untie)
        modules.ties.keep()
        for name in wanted:
            modules.take_off(model, name)
