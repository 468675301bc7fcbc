"""A product with a sum of matrices as a sum of products.

Law: `(P + Q) @ x => P @ x + Q @ x`, wherever in the product the sum stands.
"""

from __future__ import annotations

from peftref.language.expr import Call, Expr
from peftref.language.rewrite.cost import Meter
from peftref.language.rewrite.output import addends, negated, total
from peftref.language.rewrite.rule import Rule


def spread_product(expr: Expr, meter: Meter) -> Expr | None:
    """The sum of products that a product of a sum of matrices with a value per token is; None where it is no such product."""
    if not isinstance(expr, Call) or expr.op != "matmul" or meter.scope.kind(expr).per != "token":
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


RULE = Rule("spread a product over a sum", "product", spread_product)
