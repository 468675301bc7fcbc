"""Where a technique is the only one at a linear slot: forms that hold there only, since the host's own output is `W @ x + b`.

The rule of memory: a form may keep for backward what the form that holds everywhere keeps, or, where that is more, the changed
weight and its input, which is what any map keeps whose weight is made anew for a step; never more. Below that, each number that
it keeps more is weighed as one that is written into fresh memory, so that it must save time worth it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from peftref.analyse.merge import Merge, merge_rule
from peftref.design.insertion import Insertion
from peftref.language.check import Effect
from peftref.language.expr import Call, Expr, Name, call, names, rebuild, walk
from peftref.language.ops import TABLE
from peftref.language.rewrite.computed import computed
from peftref.language.rewrite.cost import FLOPS_PER_FRESH, Cost, Meter
from peftref.language.rewrite.optimise import optimise

MARGIN = 0.95
"""The share of the score of the form that holds everywhere that another form must stay below."""
ROOM = 1.01
"""How much more than what the form that holds everywhere keeps for backward counts as the same."""
PRODUCT = call("matmul", Name("W"), Name("x"))


@dataclass(frozen=True, slots=True)
class Alone:
    """A form for one technique alone at a linear map, and the law that makes it of `h + D @ x`."""

    value: Expr
    law: str


def alone(
    insertion: Insertion, effect: Effect, lacks: frozenset[str], numbers: Mapping[str, object], meter: Meter
) -> Alone | None:
    """The cheapest form that holds for one technique alone, where it costs less by the rule of memory, else None.

    Laws: `h + D @ x => (W + D) @ x + b`, and `W @ x => h - b`, for whole linear maps in single or double precision; half
    precision would round D away. lacks: what the host does not have (`b`). numbers: sizes and settings. meter: at the load of
    the batch.

    >>> from peftref.analyse.explain import explain
    >>> explain("shira", "bert-base").parts[0].chosen
    '(W + scatter(v, at, m=d_in, n=d_out)) @ x + b'
    """
    if effect.kind != "linear":
        return None
    written = computed(effect, lacks, numbers).get("h")
    if written is None or "h" not in names(written):
        return None
    there = meter.cost(optimise(written, meter)[0])
    found = [*_added(insertion, effect, lacks, written, meter), *_reused(written, lacks, meter)]
    costs = {form: meter.cost(form.value) - spared(meter, form.value) for form in found}
    room = ROOM * max(there.saved, meter.elements(Name("W")) + meter.elements(Name("x")))
    weighed = {form: cost.score + FLOPS_PER_FRESH * max(0, cost.saved - there.saved) for form, cost in costs.items()}
    fit = [form for form in found if weighed[form] < MARGIN * there.score and costs[form].saved <= room]
    return min(fit, key=weighed.__getitem__, default=None)


def spared(meter: Meter, value: Expr) -> Cost:
    """The cost of the host's own product, where it is not made for a value at a whole linear map that does not read it."""
    return Cost() if "h" in names(value) else meter.cost(PRODUCT)


def _added(insertion: Insertion, effect: Effect, lacks: frozenset[str], written: Expr, meter: Meter) -> Iterator[Alone]:
    """The change added to the weight, in a technique that computes the same while it trains."""
    rule = merge_rule(insertion, effect)
    if not isinstance(rule, Merge) or rule.into != effect.slot or "W" not in rule.values:
        return
    if any(isinstance(node, Call) and TABLE[node.op].random for node in walk(written)):
        return
    whole = call("matmul", optimise(rule.values["W"], meter)[0], Name("x"))
    shift = rule.values.get("b", None if "b" in lacks else Name("b"))
    value = whole if shift is None else call("add", whole, shift)
    yield Alone(value, "add the change to the weight, one product in place of two")


def _reused(written: Expr, lacks: frozenset[str], meter: Meter) -> Iterator[Alone]:
    """The host's own product read off its output, in the order that is cheapest when it costs nothing."""
    better, _ = optimise(written, replace(meter, given=frozenset([PRODUCT])))
    if PRODUCT in walk(better):
        own: Expr = Name("h") if "b" in lacks else call("sub", Name("h"), Name("b"))
        yield Alone(_put(better, own), "take the host's own product, which is there already")


def _put(expr: Expr, own: Expr) -> Expr:
    return own if expr == PRODUCT else rebuild(expr, lambda part: _put(part, own))
