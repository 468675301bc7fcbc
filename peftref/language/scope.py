"""What the names of an equation stand for at a slot, and the kind of every checked expression over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Literal

from peftref.core.problem import PeftrefError
from peftref.host.architecture import ARCHITECTURE, SIZES, slot_beside
from peftref.language import einsum
from peftref.language.expr import Call, Expr, Name, Number, Text
from peftref.language.kind import SCALAR, Kind, KindError
from peftref.language.op import Op
from peftref.language.ops import TABLE
from peftref.language.read_size import parse_size, size_of
from peftref.language.show import show
from peftref.language.size import Size

Role = Literal["quantity", "leaf", "setting", "size", "intermediate"]
Sharing = Literal["site", "layer", "slot", "design"]

CARRIES = ("sublayer", "norm")
"""The kinds of slot at which what is carried beside the stream can be read and set: those that hold its vectors."""

ALIASES: Mapping[str, Mapping[str, str]] = {
    "linear": {},
    "core": {},
    "sublayer": {"d_in": "d_model", "d_out": "d_model"},
    "norm": {"d_in": "d_model", "d_out": "d_model"},
    "sequence": {"d_in": "d_model", "d_out": "d_model"},
    "activation": {"d_in": "d_ff", "d_out": "d_ff"},
}


@dataclass(frozen=True, slots=True)
class Leaf:
    """A tensor that a technique declares: symbolic shape, init (row name and its arguments), trained or frozen, sharing scope.

    fit: sites of other sizes read its leading part. whole: it holds positions in another value. lr: factor on its learning rate,
    a number or the name of a setting.
    """

    name: str
    dims: tuple[Size, ...]
    init: str = "zeros"
    init_args: tuple[tuple[str, float | str], ...] = ()
    trainable: bool = True
    scope: Sharing = "site"
    fit: bool = False
    whole: bool = False
    lr: float | str = 1.0

    def count(self) -> Size:
        """How many numbers one copy has."""
        total = Size.of(1)
        for dim in self.dims:
            total = total * dim
        return total


@dataclass(frozen=True, slots=True)
class Entry:
    """What a name stands for."""

    kind: Kind
    role: Role
    about: str


@dataclass(frozen=True)
class Scope:
    """The names of an equation at one slot, with what each stands for.

    >>> scope = scope_at("attention.query", {}, {"r": 8})
    >>> scope.entries["x"].kind.show()
    '[d_in] per token'
    """

    slot: str
    entries: Mapping[str, Entry]
    _kinds: dict[Expr, Kind] = field(default_factory=dict, compare=False, repr=False)

    def kind(self, expr: Expr) -> Kind:
        """The kind of a checked expression; raises KindError where it has none."""
        known = self._kinds.get(expr)
        if known is None:
            known = self._kinds[expr] = self._infer(expr)
        return known

    def _infer(self, expr: Expr) -> Kind:
        match expr:
            case Number():
                return SCALAR
            case Name(name):
                entry = self.entry(name)
                if entry is None:
                    raise KindError(f"there is no {name}")
                return entry.kind
            case Text():
                raise KindError("a text has no shape")
            case Call():
                return apply_rule(expr, tuple(self.kind(arg) for arg in expr.args if not isinstance(arg, Text)))

    def axes(self, expr: Call) -> dict[str, Size]:
        """The size of every axis of an einsum."""
        text, *operands = expr.args
        assert isinstance(text, Text)
        given = {name: size_of(value) for name, value in expr.options}
        return einsum.bind(einsum.parse_pattern(text.value), tuple(self.kind(arg) for arg in operands), given)

    def entry(self, name: str) -> Entry | None:
        """What a name stands for, a sibling's quantity (`attention.key.W`) included."""
        if name in self.entries:
            return self.entries[name]
        word, _, quantity = name.rpartition(".")
        slot = slot_beside(word, self.slot)
        return None if slot is None else _siblings(slot).get(quantity)

    def with_intermediate(self, name: str, kind: Kind, about: str) -> Scope:
        """The scope with one more name."""
        return Scope(self.slot, {**self.entries, name: Entry(kind, "intermediate", about)})


def apply_rule(expr: Call, kinds: tuple[Kind, ...]) -> Kind:
    """The kind of a call's result, from the kinds of its operands without patterns; raises KindError."""
    op = TABLE[expr.op]
    given = [(name, value) for name, value in expr.options if op.pattern or name in op.options]
    sizes = {name: _option(op.name, name, value) for name, value in given}
    missing = [name for name, default in op.options.items() if default is None and name not in sizes]
    if missing:
        raise KindError(f"{op.name} needs the option {missing[0]}", f"for example {op.example}")
    left = iter(kinds)
    operands = [
        arg.value if isinstance(arg, Text) else _literal(op, i, arg, next(left)) for i, arg in enumerate(expr.args)
    ]
    return op.rule(*operands, **sizes)


def _literal(op: Op, number: int, arg: Expr, kind: Kind) -> Kind | int | float:
    """An operand that must be written out as a number, or the kind of any other."""
    if number not in op.literals:
        return kind
    if not isinstance(arg, Number):
        raise KindError(
            f"operand {number + 1} of {op.name} is a number that is written out", f"for example {op.example}"
        )
    return arg.value


def _option(op: str, name: str, value: Expr) -> Size:
    try:
        return size_of(value)
    except PeftrefError:
        raise KindError(f"the option {name} of {op} is {show(value)}, which is no size") from None


Carried = Mapping[str, tuple[Size, ...]]
"""What a technique carries from layer to layer beside the stream: the shape that each quantity has for every token, by its name."""


def scope_at(
    slot: str, leaves: Mapping[str, Leaf], settings: Mapping[str, object], carried: Carried = MappingProxyType({})
) -> Scope:
    """The scope of an equation at a slot."""
    alias = {name: Size.symbol(value) for name, value in ALIASES[ARCHITECTURE.slot(slot).kind].items()}
    entries: dict[str, Entry] = {name: Entry(SCALAR, "size", about) for name, about in SIZES.items()}
    entries.update({name: Entry(SCALAR, "setting", f"the setting {name}, {value}") for name, value in settings.items()})
    entries.update(quantities(slot))
    for name, dims in carried.items() if ARCHITECTURE.slot(slot).kind in CARRIES else ():
        kind = Kind(tuple(dim.substitute(alias) for dim in dims), "token")
        entries[name] = Entry(kind, "quantity", f"{name}, which is carried from layer to layer")
    for name, leaf in leaves.items():
        entries[name] = Entry(Kind(tuple(dim.substitute(alias) for dim in leaf.dims)), "leaf", f"the leaf {name}")
    return Scope(slot, entries)


@cache
def quantities(slot: str) -> Mapping[str, Entry]:
    """The quantities of a slot, in its own sizes."""
    row = ARCHITECTURE.slot(slot)
    alias = ALIASES[row.kind]
    found = {}
    for quantity in ARCHITECTURE.kind(row.kind).quantities:
        dims = tuple(Size.symbol(alias.get(name, name)) for name in quantity.shape)
        found[quantity.name] = Entry(Kind(dims, quantity.per), "quantity", f"{quantity.about}, of {slot}")
    return found


@cache
def _siblings(slot: str) -> Mapping[str, Entry]:
    """The quantities of a slot that have one value in all, as another slot of the layer reads them: in the stack's own sizes."""
    roles = {name: parse_size(size) for name, size in ARCHITECTURE.slot(slot).sizes.items()}
    return {
        name: Entry(Kind(tuple(dim.substitute(roles) for dim in entry.kind.dims)), entry.role, entry.about)
        for name, entry in quantities(slot).items()
        if entry.kind.per == "none"
    }
