"""The cheapest form of an expression: the laws in the order of their registry, and the record of what each decision saved."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from peftref.language.expr import Call, Expr, rebuild, walk
from peftref.language.rewrite.contract import contract
from peftref.language.rewrite.cost import Meter
from peftref.language.rewrite.network import NotMultilinearError, joins
from peftref.language.rewrite.rule import Decision, Rule
from peftref.language.rewrite.rules import rules
from peftref.language.rewrite.simplify import simplify


def optimise(expr: Expr, meter: Meter) -> tuple[Expr, tuple[Decision, ...]]:
    """The cheapest form of an expression that the laws reach, and the decisions on the way; never dearer than before.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.scope import Leaf, scope_at
    >>> from peftref.language.show import show
    >>> from peftref.language.read_size import parse_size
    >>> from peftref.language.rewrite.cost import Load
    >>> leaf = lambda name, *dims: Leaf(name, tuple(parse_size(dim) for dim in dims))
    >>> scope = scope_at("attention.query", {"A": leaf("A", "r", "d_in"), "B": leaf("B", "d_out", "r")}, {"r": 8})
    >>> meter = Meter(scope, {"r": 8, "d_in": 768, "d_out": 768}, Load(512, 64, frozenset("ABx")))
    >>> show(optimise(parse_expression("h + B @ A @ x"), meter)[0])
    'h + B @ (A @ x)'
    """
    plain = simplify(expr)
    simple, first = _normalised(plain, meter)
    found = [_ordered(form, names, meter) for form, names in _forms(simple, meter).items()]
    better, decisions, form, names = min(found, key=lambda one: meter.cost(one[0]).score)
    made = [Decision(simple, form, meter.cost(simple), meter.cost(form), names)] if names else []
    return better, (*first, *made, *decisions)


def _normalised(expr: Expr, meter: Meter) -> tuple[Expr, list[Decision]]:
    """The form that the laws make which are always taken."""
    made: list[Decision] = []
    for rule in rules("always"):
        after = simplify(rule.form(expr, meter))
        if after != expr:
            made.append(Decision(expr, after, meter.cost(expr), meter.cost(after), (rule.name,)))
        expr = after
    return expr, made


def _forms(simple: Expr, meter: Meter) -> dict[Expr, tuple[str, ...]]:
    """The forms of a whole expression, each with the laws that make it; of equally good ones the first is to be taken."""
    forms: dict[Expr, tuple[str, ...]] = {simple: ()}
    for rule in rules("form"):
        for form, names in tuple(forms.items()):
            forms.setdefault(rule.form(form, meter), (*names, rule.name))
    preferred = [rule for rule in rules("form") if rule.preferred]
    return dict(sorted(forms.items(), key=lambda item: sum(rule.form(item[0], meter) != item[0] for rule in preferred)))


def _ordered(
    form: Expr, names: tuple[str, ...], meter: Meter
) -> tuple[Expr, tuple[Decision, ...], Expr, tuple[str, ...]]:
    """A form with its products in their cheapest order, and the laws of forms once more where that now is cheaper."""
    expr, decisions = _best(form, meter)
    for rule in rules("form"):
        after = rule.form(expr, meter)
        before_cost, after_cost = meter.cost(expr), meter.cost(after)
        if after_cost.score < before_cost.score:
            expr, decisions = after, (*decisions, Decision(expr, after, before_cost, after_cost, (rule.name,)))
    return expr, decisions, form, names


def _best(simple: Expr, meter: Meter) -> tuple[Expr, tuple[Decision, ...]]:
    """The cheapest order of every product: each by itself, or with the values that the whole reads in several places as given."""
    best: Expr = simple
    found: tuple[Decision, ...] = ()
    for given in dict.fromkeys((meter.given, meter.given | _repeated(simple, meter))):
        decisions: list[Decision] = []
        result = _products(simple, replace(meter, given=given), decisions)
        if meter.cost(result).score < meter.cost(best).score:
            best, found = result, tuple(decisions)
    return best, found


def _repeated(expr: Expr, meter: Meter) -> frozenset[Expr]:
    """The values per token that stand in several places."""
    uses = Counter(arg for node in {*walk(expr)} if isinstance(node, Call) for arg in node.args)
    return frozenset(
        part
        for part, count in uses.items()
        if count > 1 and isinstance(part, Call) and meter.scope.kind(part).per == "token"
    )


def _products(expr: Expr, meter: Meter, decisions: list[Decision]) -> Expr:
    """Every largest product brought into its cheapest order, or into another form that a law of products has of it."""
    if not isinstance(expr, Call):
        return expr
    kept: list[Decision] = []
    here = _contracted(expr, meter, kept)
    for rule, form in _other_forms(expr, meter):
        there = _products(form, meter, [])
        if meter.cost(there).score < meter.cost(here).score:
            here, kept = there, [Decision(expr, there, meter.cost(expr), meter.cost(there), (rule.name,))]
    decisions += kept
    return here


def _other_forms(expr: Call, meter: Meter) -> list[tuple[Rule, Expr]]:
    """What the laws of products make of one, with the law."""
    found = [(rule, rule.apply(expr, meter)) for rule in rules("product")]
    return [(rule, form) for rule, form in found if form is not None and form != expr]


def _contracted(expr: Call, meter: Meter, decisions: list[Decision]) -> Expr:
    try:
        cheapest, laws = contract(expr, meter)
    except NotMultilinearError:
        return rebuild(expr, lambda child: _products(child, meter, decisions))
    before, after = meter.cost(expr), meter.cost(cheapest)
    if after.score >= before.score and (cheapest != expr):
        return rebuild(expr, lambda child: _inner(child, meter, decisions))
    if cheapest != expr:
        decisions.append(Decision(expr, cheapest, before, after, laws))
    return rebuild(cheapest, lambda child: _inner(child, meter, decisions))


def _inner(expr: Expr, meter: Meter, decisions: list[Decision]) -> Expr:
    """Below a product that has its order: only what is no product itself is looked at again."""
    if isinstance(expr, Call) and joins(expr) and not _other_forms(expr, meter):
        return rebuild(expr, lambda child: _inner(child, meter, decisions))
    return _products(expr, meter, decisions)
