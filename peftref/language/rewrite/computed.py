"""What is computed at a site: its replaced quantities, before any rewrite."""

from __future__ import annotations

from collections.abc import Mapping

from peftref.language.check import Effect
from peftref.language.expr import Expr
from peftref.language.rewrite.output import output
from peftref.language.rewrite.share import without_dropout


def computed(effect: Effect, lacks: frozenset[str], numbers: Mapping[str, object]) -> dict[str, Expr]:
    """The values to compute: at linear slots always h, without what the host lacks, and without dropout at rate zero.

    numbers: sizes and settings.
    """
    if effect.kind == "linear":
        values = {"h": output(effect.values, bias="b" not in lacks)} if effect.values else {}
    else:
        values = {name: value for name, value in effect.values.items() if name not in lacks}
    return {name: without_dropout(value, numbers) for name, value in values.items()}
