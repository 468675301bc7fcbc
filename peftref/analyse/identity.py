"""Whether a technique leaves its host as it is before it is trained, by the inits of its leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from peftref.analyse.contraction import contraction
from peftref.analyse.form import replaced
from peftref.design.inits import INITS
from peftref.design.insertion import insertions
from peftref.design.procedures import PROCEDURES
from peftref.design.technique import Technique
from peftref.language.expr import Call, Expr, Name, Number, Text, names, rebuild, substitute, walk
from peftref.language.ops import TABLE
from peftref.language.rewrite.simplify import simplify
from peftref.language.scope import Leaf
from peftref.language.show import show

EYE = Name("identity matrix")
PAIRS = Name("pairs of equal columns")
"""What a rotation by nothing is, and reflections that undo each other; no leaf can have these names."""
FORMS = {"identity": EYE, "paired_columns": PAIRS}
"""Inits with a form of their own."""

SMALL = 0.05
"""The largest standard deviation that a near identity starts from."""


@dataclass(frozen=True, slots=True)
class Identity:
    """yes, near (zero but for small random leaves), no, or open (no law decides it); and the reason."""

    answer: Literal["yes", "near", "no", "open"]
    reason: str


def identity(technique: Technique) -> Identity:
    """Whether the technique computes what the host computes before it is trained.

    >>> from peftref.design.load import load
    >>> identity(load("lora")).answer, identity(load("houlsby")).answer, identity(load("prompt")).answer
    ('yes', 'near', 'no')
    """
    answers = [
        Identity("no", f"it {PROCEDURES[each.name].about}")
        for each in technique.procedures
        if not PROCEDURES[each.name].keeps
    ]
    still = _still(technique)
    for insertion in insertions(technique):
        exact = {name: _start(leaf) for name, leaf in insertion.leaves.items()}
        near = {
            name: Number(0) if _small(leaf, technique) else value
            for (name, leaf), value in zip(insertion.leaves.items(), exact.values(), strict=True)
        }
        changed = sorted(name for name, leaf in insertion.leaves.items() if INITS[leaf.init].mutates)
        for effect in insertion.told.values():
            if changed:
                answers.append(Identity("open", f"the init of {', '.join(changed)} changes the host's own weights"))
                continue
            values = replaced(effect)
            if effect.kind == "linear" and "h" not in effect.values:
                values = {name: simplify(value) for name, value in effect.values.items()}
            for quantity, value in values.items():
                if quantity in effect.carried:  # the host is changed where it is read
                    continue
                zero = sorted(names(value) & still.keys())
                found = _answer(quantity, substitute(value, still), exact, near)
                if zero and found.answer == "yes":
                    found = Identity("yes", f"{', '.join(zero)} is carried as zero, so {quantity}' = {quantity}")
                answers.append(found)
    order = ("no", "open", "near", "yes")
    if not answers:
        return Identity("yes", "nothing is added to the host")
    return min(answers, key=lambda each: order.index(each.answer))


def _still(technique: Technique) -> dict[str, Expr]:
    """What is carried and stays zero before training, since every equation that sets it then gives zero."""
    still: dict[str, Expr] = dict.fromkeys(technique.carries, Number(0))
    while True:
        moved = {
            name
            for insertion in insertions(technique)
            for effect in insertion.told.values()
            for name in effect.sets & still.keys()
            if _at(effect.values[name], {**{k: _start(v) for k, v in insertion.leaves.items()}, **still}) != Number(0)
        }
        if not moved:
            return still
        still = {name: value for name, value in still.items() if name not in moved}


def _answer(quantity: str, value: Expr, exact: Mapping[str, Expr], near: Mapping[str, Expr]) -> Identity:
    if isinstance(value, Call) and TABLE[value.op].lengthens:
        return Identity("no", f"{show(value)} is longer than {quantity} from the start")
    start = _at(value, exact)
    zeros = [name for name, leaf in exact.items() if leaf == Number(0)]
    ones = [name for name, leaf in exact.items() if leaf == Number(1)]
    why = " and ".join(
        [
            f"{', '.join(group)} {'starts' if len(group) == 1 else 'start'} at {word}"
            for group, word in ((zeros, "zero"), (ones, "one"))
            if group
        ]
    )
    if start == Name(quantity):
        return Identity("yes", f"{why or 'nothing changes it'}, so {quantity}' = {quantity}")
    if _at(value, near) == Name(quantity):
        small = [name for name, leaf in near.items() if leaf == Number(0) and exact[name] != Number(0)]
        return Identity(
            "near", f"{', '.join(small)} {'starts' if len(small) == 1 else 'start'} at small random numbers"
        )
    undecided = any(TABLE[node.op].opaque for node in walk(start) if isinstance(node, Call))
    return Identity("open" if undecided else "no", f"{quantity}' = {show(start)} at the start")


def _start(leaf: Leaf) -> Expr:
    row = INITS[leaf.init]
    arguments = dict(leaf.init_args)
    if row.exact == "zeros" or (leaf.init == "constant" and arguments.get("value") == 0):
        return Number(0)
    if row.exact == "ones" or (leaf.init == "constant" and arguments.get("value") == 1):
        return Number(1)
    if leaf.init in FORMS:
        return FORMS[leaf.init]
    source = arguments.get("of")
    if leaf.init == "copy" and isinstance(source, str):
        return Name(source)
    if leaf.init in TABLE and isinstance(source, str):
        return Call(leaf.init, (Name(source),))
    if row.reads_host and not row.random:
        return Name(f"{leaf.init} {arguments} {[dim.show() for dim in leaf.dims]}")
    return Name(leaf.name)


def _small(leaf: Leaf, technique: Technique) -> bool:
    arguments = dict(leaf.init_args)
    spread = arguments.get("std", arguments.get("bound"))
    if isinstance(spread, str):
        spread = technique.settings.get(spread)
    return INITS[leaf.init].random and isinstance(spread, int | float) and spread <= SMALL


def _at(expr: Expr, start: Mapping[str, Expr]) -> Expr:
    """The expression with the leaves at their first values, and everything gone that is zero with them."""
    if isinstance(expr, Name):
        return start.get(expr.name, expr)
    if not isinstance(expr, Call):
        return expr
    made = rebuild(expr, lambda child: _at(child, start))
    if not isinstance(made, Call):
        return made
    operands = [arg for arg in made.args if not isinstance(arg, Text)]
    if any(i in TABLE[made.op].vanishes and arg == Number(0) for i, arg in enumerate(operands)):
        return Number(0)
    return simplify(_eye(made))


def _eye(expr: Call) -> Expr:
    """The laws of the identity matrix: where it comes from, and what it leaves as it is; and `a * b / a = b`."""
    op = TABLE[expr.op]
    if op.zero is not None and expr.args == (Number(0),):
        return EYE if op.zero == "identity" else Number(1)
    if op.identity and all(arg == EYE for arg in expr.args):
        return EYE
    if op.passes:
        return expr.args[0]
    match expr:
        case Call("diag", (Number(1),)):
            return EYE
        case Call("householder", (Call("transpose", (inner,)),)) if inner == PAIRS:
            return EYE
        case Call("relu", (Name(name) as inner,)) if (row := INITS.get(name.split()[0])) and row.positive:
            return inner
        case Call("einsum"):
            return contraction(expr, EYE)
        case Call("matmul", (left, right)) if left == EYE:
            return right
        case Call("matmul", (left, right)) if right == EYE:
            return left
        case Call("div", (Call("mul", (left, right)), below)) if left == below:
            return right
        case Call("div", (above, below)) if above == below:
            return Number(1)
        case Call("sub", (left, right)) if left == right:
            return Number(0)
        case Call("join", (Call("part", (inner, Number(0), count)), *_)) if isinstance(
            count, Number
        ) and expr.args == _parts(inner, count):
            return inner
        case Call("add", (left, Call("sub", (right, taken)))) if left == taken:
            return right
        case Call("sub", (Call("add", (left, right)), taken)) if right == taken:
            return left
    return expr


def _parts(whole: Expr, count: Number) -> tuple[Expr, ...]:
    return tuple(Call("part", (whole, Number(i), count)) for i in range(int(count.value)))
