"""How a replaced quantity meets its old value: what is added, put beside it or scaled by what, and what that reads.

Every equation at a linear slot is looked at as what it does to the output, so that `W' = W + B @ A` and `h' = h + B @ A @ x` are
one technique.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from peftref.analyse.affine import scaling
from peftref.language.check import Effect
from peftref.language.expr import Call, Expr, Name, Number, call, names
from peftref.language.ops import TABLE
from peftref.language.rewrite.constant import depends
from peftref.language.rewrite.output import addends, output, total
from peftref.language.rewrite.simplify import simplify
from peftref.language.scope import Scope

Integration = Literal[
    "concatenation", "direct addition", "scaled addition", "gated addition", "rescaling", "replacement"
]


@dataclass(frozen=True, slots=True)
class Form:
    """One replaced quantity: how its new value meets the old one, and the part that is new.

    new: what is added or put in front, or the factor of a rescaling. factor: the number, vector or gate in front of it.
    """

    quantity: str
    value: Expr
    integration: Integration
    new: Expr
    factor: Expr | None = None


def replaced(effect: Effect) -> dict[str, Expr]:
    """The replaced quantities of an effect; at a linear slot, the output."""
    values = {name: simplify(value) for name, value in effect.values.items()}
    if effect.kind == "linear" and not set(values) <= {"b"}:
        return {"h": simplify(output(values))}
    return values


def forms(effect: Effect, leaves: frozenset[str]) -> Iterator[Form]:
    """The form of every replaced quantity. leaves: the names that the technique trains or adds."""
    for name, value in replaced(effect).items():
        yield from meetings(name, value, effect, leaves)


def meetings(name: str, value: Expr, effect: Effect, leaves: frozenset[str]) -> Iterator[Form]:
    """How one replaced quantity meets its old value: one form, or two where it is both scaled and added to, `h' = l * h + c`."""
    terms = addends(value)
    own = [term for term in terms if name in names(term)]
    factor = _scaled(own[0], name, effect.scope) if len(own) == 1 < len(terms) else None
    if factor is None:
        yield _form(name, value, effect, leaves)
        return
    new = total(tuple(term for term in terms if term is not own[0]))
    yield Form(name, value, "rescaling", factor)
    yield Form(name, value, "direct addition", new)


def _form(name: str, value: Expr, effect: Effect, leaves: frozenset[str]) -> Form:
    if isinstance(value, Call) and TABLE[value.op].lengthens and Name(name) in value.args:
        rest = [arg for arg in value.args if arg != Name(name)]
        return Form(name, value, "concatenation", rest[0])
    terms = addends(value)
    if Name(name) in terms:
        others = list(terms)
        others.remove(Name(name))
        new = total(tuple(others))
        scaled = _scaled(new, name, effect.scope)
        if scaled is not None:
            return Form(name, value, "rescaling", scaled)
        factor = _factor(others[0], effect) if len(others) == 1 else None
        return Form(name, value, _addition(factor, effect, leaves), new, factor)
    scaled = _scaled(value, name, effect.scope)
    if scaled is not None:
        return Form(name, value, "rescaling", scaled)
    return Form(name, value, "replacement", value)


def _scaled(value: Expr, name: str, scope: Scope) -> Expr | None:
    """The factor of an elementwise product with the old value itself: `l * h`, `h * l / m`, `einsum("n, n d -> n d", g, o)`."""
    if not isinstance(value, Call):
        return None
    at = [number for number, arg in enumerate(value.args) if name in names(arg)]
    if len(at) != 1:
        return None
    factor: Expr | None = None
    match value.op, value.args:
        case "mul", (left, right):
            factor = left if at == [1] else right
        case "div", (_, right) if at == [0]:
            factor = call("div", Number(1), right)
        case "neg", _:
            factor = Number(-1)
        case "einsum", _:
            factor = scaling(value, at[0] - 1, scope)
    inner = value.args[at[0]]
    if factor is None or inner == Name(name):
        return factor
    within = _scaled(inner, name, scope)
    return None if within is None else call("mul", factor, within)


def _factor(term: Expr, effect: Effect) -> Expr | None:
    """The leftmost number or vector of a product: the scale in `s * B @ A @ x`, the gate in `g * a`; a matrix is none."""
    while isinstance(term, Call):
        if term.op in ("neg", "matmul"):
            term = term.args[0]
        elif term.op == "mul":
            return term.args[0] if len(effect.scope.kind(term.args[0]).dims) < 2 else None
        elif term.op == "einsum":
            return next((arg for arg in term.args[1:] if _gates(arg, effect)), None)
        else:
            return None
    return None


def _gates(arg: Expr, effect: Effect) -> bool:
    """Whether an operand of a contraction is a softmax or an activation that depends on the input."""
    return (
        isinstance(arg, Call) and depends(arg, effect.scope) and TABLE[arg.op].family in ("activation", "normalisation")
    )


def _addition(factor: Expr | None, effect: Effect, leaves: frozenset[str]) -> Integration:
    if factor is None or factor == Number(1):
        return "direct addition"
    if depends(factor, effect.scope):
        return "gated addition"
    if names(factor) & leaves and not effect.scope.kind(factor).dims:
        return "gated addition"
    return "scaled addition"
