"""The immutable tree of an equation: names, numbers, texts and calls; infix operators are calls of their op."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

Span = tuple[int, int]
NOWHERE: Span = (0, 0)


@dataclass(frozen=True, slots=True)
class Name:
    """A name that is read: a quantity, a leaf, a setting, a size or an intermediate."""

    name: str
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Number:
    """A literal number."""

    value: int | float
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Text:
    """A literal text: the pattern of an einsum."""

    value: str
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """An op applied to arguments, with named options."""

    op: str
    args: tuple[Expr, ...]
    options: tuple[tuple[str, Expr], ...] = ()
    span: Span = field(default=NOWHERE, compare=False, repr=False)
    _hash: int = field(default=0, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.op, self.args, self.options)))

    def __hash__(self) -> int:
        return self._hash


Expr = Name | Number | Text | Call


@dataclass(frozen=True, slots=True)
class Target:
    """What a statement sets: an intermediate, or with `primed` the quantity that it replaces."""

    name: str
    primed: bool
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: targets, and the value that they get."""

    targets: tuple[Target, ...]
    value: Expr


@dataclass(frozen=True, slots=True)
class Equation:
    """The statements of an insertion, in their order."""

    statements: tuple[Statement, ...]


def walk(expr: Expr) -> Iterator[Expr]:
    """Every node of a tree, parents before children.

    >>> [type(node).__name__ for node in walk(Call("neg", (Name("x"),)))]
    ['Call', 'Name']
    """
    yield expr
    if isinstance(expr, Call):
        for arg in expr.args:
            yield from walk(arg)
        for _, value in expr.options:
            yield from walk(value)


def names(expr: Expr) -> frozenset[str]:
    """The names that a tree reads.

    >>> sorted(names(Call("add", (Name("h"), Name("beta")))))
    ['beta', 'h']
    """
    return frozenset(node.name for node in walk(expr) if isinstance(node, Name))


def rebuild(expr: Expr, change: Callable[[Expr], Expr]) -> Expr:
    """The same node with its children changed."""
    if not isinstance(expr, Call):
        return expr
    args = tuple(change(arg) for arg in expr.args)
    options = tuple((key, change(value)) for key, value in expr.options)
    return expr if (args, options) == (expr.args, expr.options) else Call(expr.op, args, options, expr.span)


def substitute(expr: Expr, values: Mapping[str, Expr]) -> Expr:
    """The tree with some names replaced by trees.

    >>> substitute(Call("neg", (Name("z"),)), {"z": Name("x")})
    Call(op='neg', args=(Name(name='x'),), options=())
    """
    if isinstance(expr, Name):
        return values.get(expr.name, expr)
    return rebuild(expr, lambda child: substitute(child, values))


def call(op: str, *args: Expr, **options: Expr) -> Call:
    """An op applied to arguments.

    >>> call("add", Name("h"), Name("beta")).op
    'add'
    """
    return Call(op, args, tuple(sorted(options.items())))
