"""Where a technique is the only one at a linear slot: its change added to the weight first, and one product in place of two."""

from __future__ import annotations

from collections.abc import Mapping

from peftref.analyse.merge import Merge, merge_rule
from peftref.design.insertion import Insertion
from peftref.lang.check import Effect
from peftref.lang.expr import Call, Expr, Name, call, names, walk
from peftref.lang.ops import TABLE
from peftref.rewrite.computed import computed
from peftref.rewrite.cost import Cost, Meter
from peftref.rewrite.optimise import optimise

MARGIN = 0.95
"""The share of the score of `h + D @ x` that the other form must stay below."""
ROOM = 1.01
"""What it may keep for backward, as a share of what the other form keeps."""
LAW = "add the change to the weight, one product in place of two"


def alone(
    insertion: Insertion, effect: Effect, lacks: frozenset[str], numbers: Mapping[str, object], meter: Meter
) -> Expr | None:
    """`W' @ x + b'` where that costs less than `h + D @ x` and the host's own product, and keeps no more for backward, else None.

    Law: `h + D @ x => (W + D) @ x + b`, for whole linear maps in single or double precision; half precision would round D away.
    lacks: what the host does not have (`b`). numbers: sizes and settings. meter: at the load of the batch.

    >>> from peftref.analyse.explain import explain
    >>> explain("shira", "bert-base").parts[0].chosen
    '(W + scatter(v, at, m=d_in, n=d_out)) @ x + b'
    """
    if effect.kind != "linear":
        return None
    added = computed(effect, lacks, numbers).get("h")
    if added is None or "h" not in names(added) or any(_varies(node) for node in walk(added)):
        return None
    rule = merge_rule(insertion, effect)
    if not isinstance(rule, Merge) or rule.into != effect.slot or "W" not in rule.values:
        return None
    matrix, _ = optimise(rule.values["W"], meter)
    whole = call("matmul", matrix, Name("x"))
    shift = rule.values.get("b", None if "b" in lacks else Name("b"))
    found = whole if shift is None else call("add", whole, shift)
    there, here = meter.cost(optimise(added, meter)[0]), meter.cost(found) - spared(meter)
    return found if here.score < MARGIN * there.score and here.saved <= ROOM * there.saved else None


def spared(meter: Meter) -> Cost:
    """The cost of the host's own product, which is not made where a technique acts alone."""
    return meter.cost(call("matmul", Name("W"), Name("x")))


def _varies(node: Expr) -> bool:
    """Whether a part of an equation is another one while it trains."""
    return isinstance(node, Call) and "training" in TABLE[node.op].torch
