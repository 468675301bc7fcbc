"""The registry of laws: a law from outside is one value, is tried like all others, and is named where it has fired."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from peftref.core.problem import PeftrefError
from peftref.language.expr import Call, Expr, rebuild
from peftref.language.parse import parse_expression
from peftref.language.rewrite.cost import Load, Meter
from peftref.language.rewrite.optimise import optimise
from peftref.language.rewrite.rule import Rule
from peftref.language.rewrite.rules import register, rules, unregister
from peftref.language.scope import Scope
from peftref.language.show import show
from tests.language.strategies import LEAVES, SETTINGS, SIZES, scope

from .test_rewrite import assert_same_value, random_values

SCOPE: Scope = scope()
METER = Meter(SCOPE, SIZES, Load(6, 3, frozenset([*LEAVES, "x", "h"])))


def once(expr: Expr, meter: Meter) -> Expr:
    """`relu(relu(v)) => relu(v)`."""
    match expr:
        case Call("relu", (Call("relu", _) as inner,)):
            return once(inner, meter)
    return rebuild(expr, lambda part: once(part, meter)) if isinstance(expr, Call) else expr


@pytest.fixture(params=["always", "form"])
def law(request: pytest.FixtureRequest) -> Iterator[Rule]:
    rule = register(Rule("cut off what is negative once", request.param, once))
    yield rule
    unregister(rule)


def test_a_law_from_outside_is_tried_and_named(law: Rule) -> None:
    written = parse_expression("h + relu(relu(h))")
    better, decisions = optimise(written, METER)
    assert show(better) == "h + relu(h)"
    assert [decision.laws for decision in decisions] == [(law.name,)]
    assert_same_value(written, better, SCOPE, random_values(SCOPE, SIZES, SETTINGS))
    with pytest.raises(PeftrefError, match="bad-rule"):
        register(law)


def test_without_it_the_form_stays() -> None:
    assert show(optimise(parse_expression("h + relu(relu(h))"), METER)[0]) == "h + relu(relu(h))"


def test_a_law_that_has_nothing_to_do_is_not_named(law: Rule) -> None:
    _, decisions = optimise(parse_expression("h + 2 * relu(h)"), METER)
    assert law.name not in {name for decision in decisions for name in decision.laws}


def test_every_law_says_what_it_does_in_words() -> None:
    names = [rule.name for use in ("always", "form", "product") for rule in rules(use)]  # type: ignore[arg-type]
    assert len(set(names)) == len(names) >= 5
