"""The passes, in order, and the record of what each decision saved."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from peftref.language.expr import Call, Expr, Name, Number, rebuild, walk
from peftref.language.rewrite.contract import contract
from peftref.language.rewrite.cost import Cost, Meter
from peftref.language.rewrite.network import NotMultilinearError
from peftref.language.rewrite.output import addends, negated, total
from peftref.language.rewrite.pulled import inward, pulled
from peftref.language.rewrite.steered import steered
from peftref.language.rewrite.structured import applied


@dataclass(frozen=True, slots=True)
class Decision:
    """One product before and after, with the cost of each, and which laws the new order amounts to."""

    before: Expr
    after: Expr
    cost_before: Cost
    cost_after: Cost
    laws: tuple[str, ...]


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
    simple = simplify(steered(plain, meter.scope, meter.load.learning))
    found = [(form, words, *_applied(*_best(form, meter), meter)) for form, words in _forms(simple, meter).items()]
    form, words, better, decisions = min(found, key=lambda one: meter.cost(one[2]).score)
    steps = [(plain, simple, (STEERED,)), (simple, form, words)]
    made = (Decision(a, b, meter.cost(a), meter.cost(b), why) for a, b, why in steps if a != b)
    return better, (*made, *decisions)


STEERED = "turn the gradient in place of a value that is wanted for its gradient only"
APPLIES = "apply a structured matrix without forming it"


def _applied(expr: Expr, decisions: tuple[Decision, ...], meter: Meter) -> tuple[Expr, tuple[Decision, ...]]:
    """A chosen form with structured matrices applied that have come to stand alone in it, where that is cheaper."""
    found = applied(expr, meter.scope)
    before, after = meter.cost(expr), meter.cost(found)
    if after.score >= before.score:
        return expr, decisions
    return found, (*decisions, Decision(expr, found, before, after, (APPLIES,)))


def _forms(simple: Expr, meter: Meter) -> dict[Expr, tuple[str, ...]]:
    """The forms of a whole expression, each with the laws that make it; of equally good ones the first is to be taken."""
    takes, stops = "take factors of rows out", "stop gradients early"
    outside = pulled(simple, meter.scope)
    early = inward(outside, meter.load.learning)
    forms: dict[Expr, tuple[str, ...]] = {} if inward(simple, meter.load.learning) != simple else {simple: ()}
    forms.setdefault(early, (takes, stops) if early != outside else (takes,))
    forms.setdefault(applied(simple, meter.scope), (APPLIES,))
    forms.setdefault(applied(outside, meter.scope), (takes, APPLIES))
    forms.setdefault(simple, ())
    return forms


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


def simplify(expr: Expr) -> Expr:
    """The expression without the arithmetic that needs no running: 0 and 1 in sums and products, numbers with numbers.

    >>> from peftref.language.parse import parse_expression
    >>> from peftref.language.show import show
    >>> show(simplify(parse_expression("h + 0 * B @ A @ x")))
    'h'
    """
    expr = rebuild(expr, simplify)
    match expr:
        case Call("add", (a, Number(0))) | Call("add", (Number(0), a)) | Call("sub", (a, Number(0))):
            return a
        case Call("mul", (Number(1), a)) | Call("mul", (a, Number(1))) | Call("div", (a, Number(1))):
            return a
        case Call("sub", (Number(0), a)):
            return negated(a)
        case Call("mul" | "matmul" | "div" | "kron", (Number(0), _)) | Call("mul" | "matmul" | "kron", (_, Number(0))):
            return Number(0)
        case Call("einsum", (_, *operands)) if Number(0) in operands:
            return Number(0)
        case Call("neg", (Number(value),)):
            return Number(-value)
        case Call("add" | "sub" | "mul" | "div" | "pow" as op, (Number(a), Number(b))) if not (op == "div" and b == 0):
            return Number(_number(op, a, b))
        case Call("sqrt", (Number(value),)) if value >= 0:
            return Number(value**0.5)
    return expr


def _number(op: str, a: float, b: float) -> int | float:
    match op:
        case "add":
            return a + b
        case "sub":
            return a - b
        case "mul":
            return a * b
        case "div":
            return a / b
    return float(a**b)


def _products(expr: Expr, meter: Meter, decisions: list[Decision]) -> Expr:
    """Every largest product brought into its cheapest order; a sum times a value is spread where that is cheaper."""
    if not isinstance(expr, Call):
        return expr
    spread = _spread(expr, meter)
    if spread is not None:
        trial: list[Decision] = []
        there = _products(spread, meter, trial)
        kept: list[Decision] = []
        here = _contracted(expr, meter, kept)
        if meter.cost(there).score < meter.cost(here).score:
            decisions += [Decision(expr, there, meter.cost(expr), meter.cost(there), ("spread a product over a sum",))]
            return there
        decisions += kept
        return here
    return _contracted(expr, meter, decisions)


def _contracted(expr: Call, meter: Meter, decisions: list[Decision]) -> Expr:
    try:
        cheapest = contract(expr, meter)
    except NotMultilinearError:
        return rebuild(expr, lambda child: _products(child, meter, decisions))
    before, after = meter.cost(expr), meter.cost(cheapest)
    if after.score >= before.score and (cheapest != expr):
        return rebuild(expr, lambda child: _inner(child, meter, decisions))
    if cheapest != expr:
        decisions.append(Decision(expr, cheapest, before, after, laws(expr, cheapest)))
    return rebuild(cheapest, lambda child: _inner(child, meter, decisions))


def _inner(expr: Expr, meter: Meter, decisions: list[Decision]) -> Expr:
    """Below a product that has its order: only what is no product itself is looked at again."""
    if (
        isinstance(expr, Call)
        and expr.op
        in (
            "matmul",
            "mul",
            "einsum",
            "transpose",
            "kron",
            "sum",
            "diag",
            "block_diag",
            "neg",
        )
        and (_spread(expr, meter) is None)
    ):
        return rebuild(expr, lambda child: _inner(child, meter, decisions))
    return _products(expr, meter, decisions)


def _spread(expr: Call, meter: Meter) -> Expr | None:
    """Law: (P + Q) @ x => P @ x + Q @ x, wherever in the product the sum of matrices stands."""
    if expr.op != "matmul" or meter.scope.kind(expr).per != "token":
        return None
    left, right = expr.args
    terms = addends(left) if len(addends(left)) > 1 or _sums(left, meter) != 1 else _over_terms(left, meter)
    return total(tuple(_signed(term, right) for term in terms)) if len(terms) > 1 else None


def _sums(factor: Expr, meter: Meter) -> int:
    """How many factors of a product are sums of matrices."""
    if not isinstance(factor, Call) or meter.scope.kind(factor).per != "none":
        return 0
    if factor.op in ("add", "sub"):
        return int(len(meter.shape(factor)) == 2)
    return sum(_sums(side, meter) for side in factor.args) if factor.op in ("mul", "matmul") else 0


def _over_terms(factor: Expr, meter: Meter) -> tuple[Expr, ...]:
    """A product of matrices as the terms of a sum, where one of its factors is a sum of matrices; else itself."""
    if not isinstance(factor, Call) or meter.scope.kind(factor).per != "none":
        return (factor,)
    if factor.op in ("add", "sub") and len(meter.shape(factor)) == 2:
        return addends(factor)
    if factor.op in ("mul", "matmul"):
        left, right = factor.args
        for place, side in enumerate((left, right)):
            terms = _over_terms(side, meter)
            if len(terms) > 1:
                return tuple(_placed(factor, place, term) for term in terms)
    return (factor,)


def _placed(product: Call, place: int, term: Expr) -> Expr:
    """The product with one of its factors replaced; the sign of a negated factor is the product's."""
    sign = isinstance(term, Call) and term.op == "neg"
    inner = term.args[0] if sign and isinstance(term, Call) else term
    args = (inner, product.args[1]) if place == 0 else (product.args[0], inner)
    return negated(Call(product.op, args)) if sign else Call(product.op, args)


def _signed(term: Expr, right: Expr) -> Expr:
    if isinstance(term, Call) and term.op == "neg":
        return Call("neg", (Call("matmul", (term.args[0], right)),))
    return Call("matmul", (term, right))


def laws(before: Expr, after: Expr) -> tuple[str, ...]:
    """Which laws a new order amounts to, in words."""
    ops_before = {node.op for node in walk(before) if isinstance(node, Call)}
    ops_after = {node.op for node in walk(after) if isinstance(node, Call)}
    found = []
    if "kron" in ops_before - ops_after:
        found.append("apply kron without forming it")
    if "block_diag" in ops_before - ops_after:
        found.append("apply blocks without forming the matrix")
    if "diag" in ops_before - ops_after:
        found.append("scale instead of multiplying by a diagonal matrix")
    if _order(before) != _order(after):
        found.append("associate by cost")
    return tuple(found) or ("associate by cost",)


def _order(expr: Expr) -> list[str]:
    return [node.name for node in walk(expr) if isinstance(node, Name)]
