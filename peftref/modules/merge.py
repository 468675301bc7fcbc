"""Merging techniques into their host and taking them out again, all of them together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from peftref.core.problem import PeftrefError
from peftref.modules.container import container, inserted
from peftref.modules.folds import folds

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def merge(model: PreTrainedModel, names: Iterable[str], *, untie: bool = False) -> None:
    """Carries techniques into the host's own weights: the host computes the same as before, at its own cost.

    The same up to rounding, once for each weight: a relative 1e-5 of the largest output in single precision, 2e-2 in bfloat16.
    untie: a weight that the host uses in several places, of which a technique changes some, is given to these as their own until it
    is unmerged; the config says so then. Raises PeftrefError `detached`, `not-mergeable` with every reason, `tied-weight` for such a
    weight, `few-bits` for one of 4 or 8 bits, and `merge-order` where the host would compute something else beside the techniques
    that are not merged; nothing is changed then.
    """
    modules, wanted = container(model), tuple(names)
    for name in wanted:
        folds(inserted(model, name))
    both = modules.untie | (frozenset(wanted) if untie else frozenset())
    settle(model, [*modules.merged, *(name for name in wanted if name not in modules.merged)], both)


def settle(model: PreTrainedModel, merged: Iterable[str], untie: frozenset[str]) -> None:
    """Makes some techniques the merged ones, or leaves everything as it is where that cannot be."""
    modules = container(model)
    modules.refuse_chosen()
    before = modules.merged, modules.untie
    modules.merged, modules.untie = tuple(merged), untie
    try:
        modules.refuse_order()
        modules.settle(model)
    except PeftrefError:
        modules.merged, modules.untie = before
        modules.settle(model)
        raise
