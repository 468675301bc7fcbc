"""The laws of rewriting: one file each, and their registry, in the order in which they are tried.

A law of others is one file too: a module with a `RULE`, named by an entry point of the group `peftref.rules`; or a value that is
given to `register`.
"""

from __future__ import annotations

import warnings
from importlib import metadata

from peftref.core.problem import fail
from peftref.language.rewrite.rule import Rule, Use
from peftref.language.rewrite.rules import (
    apply_structured,
    hoist_row_scales,
    override_gradient,
    push_stop_gradient,
    spread_product,
)

GROUP = "peftref.rules"


class RuleWarning(UserWarning):
    """A law of another package that cannot be used."""


_KNOWN: list[Rule] = [
    override_gradient.RULE,
    hoist_row_scales.RULE,
    push_stop_gradient.RULE,
    apply_structured.RULE,
    spread_product.RULE,
]


def rules(use: Use) -> tuple[Rule, ...]:
    """The laws of a use, those of others last.

    >>> [rule.name for rule in rules("product")]
    ['spread a product over a sum']
    """
    return tuple(rule for rule in _KNOWN if rule.use == use)


def register(rule: Rule) -> Rule:
    """Adds a law, for this process. Raises PeftrefError `bad-rule` where there is one of that name."""
    if any(rule.name == each.name for each in _KNOWN):
        raise fail("bad-rule", f"there is a law {rule.name!r} already")
    _KNOWN.append(rule)
    return rule


def unregister(rule: Rule) -> None:
    """Takes a law out again."""
    _KNOWN.remove(rule)


for _entry in metadata.entry_points(group=GROUP):
    try:
        register(_entry.load().RULE)
    except Exception as error:  # whatever a plug-in raises must not stop the others
        text = f"the law plug-in {_entry.name} ({_entry.value}) is broken: {type(error).__name__}: {error}"
        warnings.warn(text, RuleWarning, stacklevel=1)
