"""Tree -> boxes: how each operator and op is set, with the fewest parentheses that leave the meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce

from peftref.language.einsum import Axis, parse_pattern
from peftref.language.expr import Call, Equation, Expr, Name, Number, Statement, Target, Text
from peftref.language.kind import KindError
from peftref.language.ops import TABLE
from peftref.language.scope import Scope
from peftref.language.typeset.box import (
    Box,
    Digits,
    Fence,
    Fraction,
    Hole,
    Root,
    Row,
    Script,
    Sign,
    Word,
    applied,
    listed,
    lowered,
    parenthesised,
    product,
    raised,
    row,
)
from peftref.language.typeset.letters import symbol
from peftref.language.typeset.template import template

ANY, SUM, BIG, INFIX, HADAMARD, PRODUCT, SCALED, FACTOR, ATOM = range(9)
"""How tightly a box binds: what stands where less would be misread goes into parentheses."""

Scalar = Callable[[Expr], bool]


def notate(expr: Expr, scope: Scope | None = None) -> Box:
    """An expression as boxes; with a scope, products with numbers are told from elementwise ones.

    >>> from peftref.language.parse import parse_expression
    >>> notate(parse_expression("B @ x"))
    Row(parts=(Word(text='B', style='italic'), Sign(text='\\u2062'), Word(text='x', style='italic')))
    """
    return _Notation(_scalars(scope)).box(expr, ANY)


def lines(equation: Equation, scope: Scope | None = None) -> tuple[tuple[Box, Box], ...]:
    """The statements of an equation as boxes: the left side and the right side of each."""
    notation = _Notation(_scalars(scope))
    return tuple(notation.statement(statement) for statement in equation.statements)


def arithmetic(expr: Expr) -> Box:
    """An expression in which every name is a number: a size, or the formula of a count."""
    return _Notation(lambda _: True).box(expr, ANY)


def _scalars(scope: Scope | None) -> Scalar:
    def scalar(expr: Expr) -> bool:
        if scope is None:
            return False
        try:
            return not scope.kind(expr).dims
        except (KindError, KeyError):
            return False

    return scalar


@dataclass(frozen=True)
class _Notation:
    scalar: Scalar

    def statement(self, statement: Statement) -> tuple[Box, Box]:
        """The sides of a statement; a contraction with named axes on its own is set with its axes on both sides."""
        targets, value = statement.targets, statement.value
        if len(targets) == 1 and isinstance(value, Call) and value.op == "einsum":
            inner, axes = self.contraction(value)
            left = _target(targets[0])
            return (lowered(left, axes) if axes is not None else left), inner
        left = listed([_target(target) for target in targets])
        return (parenthesised(left) if len(targets) > 1 else left), self.box(value, ANY)

    def box(self, expr: Expr, least: int) -> Box:
        """An expression where something that binds at least so tightly is wanted."""
        found, level = self.set(expr)
        return parenthesised(found) if level < least else found

    def set(self, expr: Expr) -> tuple[Box, int]:
        """The boxes of an expression, and how tightly they bind."""
        match expr:
            case Name(name):
                return symbol(name), ATOM
            case Number(value):
                found = _number(abs(value))
                return (
                    (row(Sign("−"), found), SUM) if value < 0 else (found, FACTOR if isinstance(found, Row) else ATOM)
                )
            case Text(value):
                return Word(value, "upright"), ATOM
        setter = _SETTERS.get(expr.op)
        return setter(self, *expr.args) if setter else self.call(expr)

    def call(self, expr: Call) -> tuple[Box, int]:
        """An op by the notation in its row of the table, or by its name."""
        if expr.op == "einsum":
            inner, axes = self.contraction(expr)
            return (inner, BIG) if axes is None else (Script(Fence("[", inner, "]"), sub=axes), ATOM)
        op = TABLE.get(expr.op)
        if op is None or op.latex is None:
            name = Word(expr.op.replace("_", "-"), "function")
            return applied(name, *(self.box(arg, ANY) for arg in expr.args)), ATOM
        given = {key: Number(value) for key, value in op.options.items() if value is not None} | dict(expr.options)
        shape = template(op.latex)
        infix = isinstance(shape, Row) and isinstance(shape.parts[0], Hole) and isinstance(shape.parts[1], Sign)
        big = isinstance(shape, Row) and isinstance(getattr(shape.parts[0], "base", None), Sign)
        return self.fill(shape, expr.args, given, FACTOR), INFIX if infix else BIG if big else ATOM

    def fill(self, box: Box, args: tuple[Expr, ...], options: Mapping[str, Expr], least: int) -> Box:
        """A notation with its holes filled; least: how tightly an operand must bind where it stands."""
        match box:
            case Hole("operands"):
                return listed([self.box(arg, ANY) for arg in args])
            case Hole(field):
                return self.box(args[int(field)] if field.isdigit() else options[field], least)
            case Row(parts):
                return row(*(self.fill(part, args, options, least) for part in parts))
            case Fraction(top, bottom):
                return Fraction(self.fill(top, args, options, ANY), self.fill(bottom, args, options, ANY))
            case Script(base, sub, sup):
                around = [None if part is None else self.fill(part, args, options, ANY) for part in (sub, sup)]
                inner = self.fill(base, args, options, ATOM)
                inner = lowered(inner, around[0]) if around[0] is not None else inner
                return raised(inner, around[1]) if around[1] is not None else inner
            case Root(inner):
                return Root(self.fill(inner, args, options, ANY))
            case Fence(_, inner):
                return replace(box, inner=self.fill(inner, args, options, ANY))
        return box

    def add(self, left: Expr, right: Expr) -> tuple[Box, int]:
        least = SUM if isinstance(right, Call) and right.op in ("add", "sub") else BIG
        return row(self.box(left, SUM), Sign("+"), self.box(right, least)), SUM

    def sub(self, left: Expr, right: Expr) -> tuple[Box, int]:
        return row(self.box(left, SUM), Sign("−"), self.box(right, BIG)), SUM

    def neg(self, inner: Expr) -> tuple[Box, int]:
        return row(Sign("−"), self.box(inner, BIG)), SUM

    def mul(self, left: Expr, right: Expr) -> tuple[Box, int]:
        if not any(_numeric(side) or self.scalar(side) for side in (left, right)):
            return row(self._term(left), Sign("⊙"), self._term(right)), HADAMARD
        levels = (self.set(side)[1] for side in (left, right))
        level = min([SCALED, *(level for level in levels if level >= INFIX)])
        least = min(level, PRODUCT)
        return product(self.box(left, least), self.box(right, least)), level

    def _term(self, side: Expr) -> Box:
        """A factor of an elementwise product: another one, or what is no product of matrices."""
        found, level = self.set(side)
        return found if level == HADAMARD or level >= SCALED else parenthesised(found)

    def matmul(self, left: Expr, right: Expr) -> tuple[Box, int]:
        return product(self.box(left, PRODUCT), self.box(right, PRODUCT)), PRODUCT

    def div(self, top: Expr, bottom: Expr) -> tuple[Box, int]:
        return Fraction(self.box(top, ANY), self.box(bottom, ANY)), FACTOR

    def floordiv(self, top: Expr, bottom: Expr) -> tuple[Box, int]:
        return Fence("⌊", Fraction(self.box(top, ANY), self.box(bottom, ANY)), "⌋"), ATOM

    def ceil(self, *args: Expr) -> tuple[Box, int]:
        inner = self.div(*args)[0] if len(args) == 2 else self.box(args[0], ANY)
        return Fence("⌈", inner, "⌉"), ATOM

    def pow(self, base: Expr, power: Expr) -> tuple[Box, int]:
        return raised(self.box(base, ATOM), self.box(power, ANY)), ATOM

    def transpose(self, inner: Expr) -> tuple[Box, int]:
        return raised(self.box(inner, ATOM), Sign("⊤")), ATOM

    def contraction(self, expr: Call) -> tuple[Box, Box | None]:
        """A contraction in index notation, and the axes of its result, None for a number."""
        head, *operands = expr.args
        pattern = parse_pattern(head.value if isinstance(head, Text) else "")
        factors = [
            lowered(self.box(arg, ATOM), _axes(axes)) if axes else self.box(arg, FACTOR)
            for arg, axes in zip(operands, pattern.operands, strict=True)
        ]
        kept = {index for axis in pattern.result for index in axis}
        summed = [index for index in pattern.indices() if index not in kept]
        terms = reduce(product, factors)
        total = row(Script(Sign("∑"), sub=listed([symbol(index) for index in summed])), terms) if summed else terms
        return total, _axes(pattern.result) if pattern.result else None


_SETTERS: Mapping[str, Callable[..., tuple[Box, int]]] = {
    name: getattr(_Notation, name)
    for name in ("add", "sub", "neg", "mul", "matmul", "div", "floordiv", "ceil", "pow", "transpose")
}
"""The operators of arithmetic, which need to know how tightly their operands bind; ops have a notation in their row."""


def _number(value: int | float) -> Box:
    """A number; one with many zeros as a power of ten."""
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    digits, e, power = shown.partition("e")
    if not e:
        return Digits(shown)
    ten = Script(Digits("10"), sup=row(*([Sign("−")] * (power[0] == "-")), Digits(power.lstrip("+-0"))))
    return ten if digits == "1" else row(Digits(digits), Sign("⋅"), ten)


def _numeric(factor: Expr) -> bool:
    """Whether a factor is a number by its form: a literal, a quotient of names and numbers, or a root."""
    match factor:
        case Number() | Call("sqrt"):
            return True
        case Call("div", (left, right)):
            return all(isinstance(side, Name | Number) or _numeric(side) for side in (left, right))
    return False


def _target(target: Target) -> Box:
    return raised(symbol(target.name), Sign("′")) if target.primed else symbol(target.name)


def _axes(axes: tuple[Axis, ...]) -> Box:
    """Axes as an index; those that are read as one stand in parentheses."""
    shown: list[Box] = []
    for axis in axes:
        letters = row(*(symbol(index) for index in axis))
        shown.append(letters if len(axis) == 1 else parenthesised(letters))
    return row(*shown)
