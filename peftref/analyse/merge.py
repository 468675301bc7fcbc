"""The merge rule: what a technique makes of the host's own weights, or the part of its equation that keeps it from merging.

A linear slot takes a change of its output into its own weight; a sublayer's goes into its last projection, one of `ffn.hidden`
into the projection that reads it, one of a norm into its gain and shift. What scales the heads or channels of attention's output, or
of its values, goes into the columns of the output projection, or the rows of the value projection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from peftref.analyse.affine import INPUT, Affine, NotLinearError, affine
from peftref.design.insertion import Insertion, insertions
from peftref.design.technique import Technique
from peftref.host.architecture import ARCHITECTURE
from peftref.language.check import Effect
from peftref.language.expr import Call, Expr, Name, Number, Text, call, names, walk
from peftref.language.kind import Kind, KindError
from peftref.language.ops import TABLE
from peftref.language.read_size import parse_size
from peftref.language.rewrite.simplify import simplify
from peftref.language.scope import Entry, Scope
from peftref.language.show import show
from peftref.language.size import Size

FOLDS = {
    "attention": "attention.output",
    "cross_attention": "cross_attention.output",
    "ffn": "ffn.down",
    "ffn.hidden": "ffn.down",
}
"""Where a change at a slot that has no weight of its own is taken in."""
CORE = {"o": "output", "v": "value"}
"""The projection that takes in what scales a value of attention itself."""


def takes_in(slot: str, replaced: Iterable[str]) -> str:
    """The slot whose weight takes in what replaces some quantities of a slot; the slot itself where none does.

    >>> takes_in("ffn", ["h"]), takes_in("cross_attention.core", ["o"]), takes_in("attention.core", ["k", "v"])
    ('ffn.down', 'cross_attention.output', 'attention.core')
    """
    component, _, part = slot.partition(".")
    only = next(iter(replaced), "") if part == "core" and len(tuple(replaced)) == 1 else ""
    return f"{component}.{CORE[only]}" if only in CORE else FOLDS.get(slot, slot)


@dataclass(frozen=True)
class Merge:
    """The rule of one insertion at one slot: `values` are W', b', g' or E' of the slot that it folds into."""

    slot: str
    into: str
    values: Mapping[str, Expr]
    scope: Scope
    insertion: Insertion

    def show(self) -> str:
        """The rule as text: `W' = W + alpha / r * B @ A at attention.query`."""
        rule = "; ".join(f"{name}' = {show(value)}" for name, value in self.values.items())
        return f"{rule} at {self.into}"


@dataclass(frozen=True)
class Blocked:
    """Why one insertion at one slot cannot be merged, and the smallest part of its equation that keeps it from it."""

    slot: str
    reason: str
    where: Expr | None = None

    def show(self) -> str:
        """The reason as text."""
        return self.reason if self.where is None else f"{show(self.where)} {self.reason}"


Rule = Merge | Blocked


def merge_rules(technique: Technique) -> tuple[Rule, ...]:
    """The rule of every insertion at every slot of the reference architecture that it names, in their order.

    What it is at self attention it is at cross attention, and is given once.

    >>> from peftref.design.load import load
    >>> [rule.show() for rule in merge_rules(load("ia3"))][2]
    "W' = W @ diag(l) at ffn.down"
    >>> merge_rules(load("houlsby"))[0].show()
    'gelu(D @ h + c) is not linear in h'
    """
    return tuple(
        merge_rule(insertion, effect) for insertion in insertions(technique) for effect in insertion.told.values()
    )


def merge_rule(insertion: Insertion, effect: Effect) -> Rule:
    """The rule of one insertion at one slot."""
    longer = _lengthens(effect.values.values())
    if longer is not None:
        return Blocked(effect.slot, "lengthens the sequence", longer)
    for name in sorted(effect.carries):
        return Blocked(effect.slot, "is carried from layer to layer beside the stream", Name(name))
    into = takes_in(effect.slot, tuple(effect.values))
    taken = [name for name in ("W", "b") if into != effect.slot and name in effect.scope.entries]
    if taken:
        return Blocked(
            effect.slot, f"is a name here, and also what {into} is made of: call it otherwise", Name(taken[0])
        )
    try:
        into, values, scope = _READERS[effect.kind](effect)
    except NotLinearError as error:
        return Blocked(effect.slot, error.reason, error.where)
    return Merge(effect.slot, into, {name: simplify(value) for name, value in values.items()}, scope, insertion)


_Read = tuple[str, Mapping[str, Expr], Scope]


def _linear(effect: Effect) -> _Read:
    values, own = effect.values, Affine(matrix=Name("W"), shift=Name("b"))
    if "h" in values:
        result = affine(values["h"], {"x": INPUT, "h": own}, {}, effect.scope)
        return effect.slot, _weights(result, values["h"]), effect.scope
    for name in ("W", "b"):
        if name in values and names(values[name]) & {"x", "h"}:
            raise NotLinearError(values[name], f"makes {name} depend on the input")
    weight, bias = values.get("W", Name("W")), values.get("b", Name("b"))
    entering = affine(values["x"], {"x": INPUT}, {}, effect.scope) if "x" in values else INPUT
    result = entering.through(weight, effect.scope) + Affine(shift=bias)
    return effect.slot, _weights(result, weight), effect.scope


def _sublayer(effect: Effect) -> _Read:
    into = FOLDS.get(effect.slot)
    if into is None:
        raise NotLinearError(Name("h"), f"of {effect.slot} is a sum that no projection of its own gives")
    unseen = ", and its last projection does not see it"
    blocked = {
        "x": f"is what enters the sublayer{unseen}",
        "res": f"is the stream beside the sublayer{unseen}",
        "out": f"is made of the stream beside the sublayer{unseen}",
    }
    own = Affine(matrix=Name("W"), shift=Name("b"))
    result = affine(effect.values["h"], {"h": own}, blocked, effect.scope)
    return into, _weights(result, effect.values["h"]), _scope(effect.scope, into)


def _activation(effect: Effect) -> _Read:
    into, scope = FOLDS[effect.slot], _scope(effect.scope, FOLDS[effect.slot])
    result = affine(effect.values["h"], {"h": INPUT}, {}, scope).through(Name("W"), scope)
    return into, _weights(result + Affine(shift=Name("b")), effect.values["h"]), scope


def _norm(effect: Effect) -> _Read:
    if "h" not in effect.values:
        for name, value in effect.values.items():
            if names(value) & {"x", "h"}:
                raise NotLinearError(value, f"makes {name} depend on the input")
        return effect.slot, effect.values, effect.scope
    value = effect.values["h"]
    result = affine(value, {"h": INPUT}, {"x": "is what enters the norm, before it is normalised"}, effect.scope)
    if result.matrix is not None or result.scale is None:
        raise NotLinearError(value, "mixes the numbers of a vector, and a gain does not")
    found: dict[str, Expr] = {}
    if result.scale != Number(1):
        found["g"] = call("mul", result.scale, Name("g"))
    bias: Expr = Name("b") if result.scale == Number(1) else call("mul", result.scale, Name("b"))
    if result.shift is not None:
        bias = call("add", bias, result.shift)
    return effect.slot, found | ({} if bias == Name("b") else {"b": bias}), effect.scope


def _core(effect: Effect) -> _Read:
    name, *others = effect.values
    value, into = effect.values[name], takes_in(effect.slot, effect.values)
    if others or name not in CORE:
        raise NotLinearError(value, f"changes {name} within attention, where no weight can take it in")
    blocked = dict.fromkeys({"x", "q", "k", "v", "o"} - {name}, "is another value than the one that is scaled")
    result = affine(value, {name: INPUT}, blocked, effect.scope)
    if result.matrix is not None or result.scale is None:
        raise NotLinearError(value, f"is more than {name}, scaled by numbers for its heads and channels")
    scope = _scope(effect.scope, into)
    try:
        made = _columns(result, scope) if name == "o" else _rows(result, scope)
    except KindError as error:
        raise NotLinearError(value, f"scales by numbers of several shapes: {error}") from None
    return into, made, scope


def _columns(result: Affine, scope: Scope) -> dict[str, Expr]:
    """W' and b' of the output projection, whose columns read the heads: scaled, and moved by constants."""
    found = {"W": _scaled("o (n d)", Name("W"), result.scale, scope)}
    match result.shift, _axes(result.shift, scope):
        case None, _:
            pass
        case shift, "":
            found["b"] = call("add", Name("b"), call("mul", shift, _einsum("o i -> o", Name("W"))))
        case shift, axes:
            found["b"] = call("add", Name("b"), _einsum(f"o (n d), {axes} -> o", Name("W"), shift))
    return {name: value for name, value in found.items() if value != Name(name)}


def _rows(result: Affine, scope: Scope) -> dict[str, Expr]:
    """W' and b' of the value projection, whose rows give the heads: scaled, and moved by constants."""
    found = {
        "W": _scaled("(n d) i", Name("W"), result.scale, scope),
        "b": _scaled("(n d)", Name("b"), result.scale, scope),
    }
    match result.shift, _axes(result.shift, scope):
        case None, _:
            pass
        case shift, "":
            found["b"] = call("add", found["b"], shift)
        case shift, "n":
            found["b"] = call("add", found["b"], _einsum("d n -> (n d)", call("tile", shift, n=Name("d_value"))))
        case shift, axes:
            found["b"] = call("add", found["b"], _einsum(f"{axes} -> (n d)", shift))
    return {name: value for name, value in found.items() if value != Name(name)}


def _scaled(axes: str, value: Expr, scale: Expr | None, scope: Scope) -> Expr:
    """A weight or a bias times numbers for the heads `n`, or for their channels `d`."""
    if scale is None or scale == Number(1):
        return value
    own = _axes(scale, scope)
    return _einsum(f"{axes}, {own} -> {axes}", value, scale) if own else call("mul", scale, value)


def _axes(value: Expr | None, scope: Scope) -> str:
    return "" if value is None else " ".join("nd"[: len(scope.kind(value).dims)])


def _einsum(pattern: str, *operands: Expr) -> Expr:
    return Call("einsum", (Text(pattern), *operands))


def _sequence(effect: Effect) -> _Read:
    if set(effect.values) == {"E"}:
        return effect.slot, effect.values, effect.scope
    raise NotLinearError(effect.values["h"], "changes token vectors, and an embedding only looks them up")


_READERS = {
    "linear": _linear,
    "sublayer": _sublayer,
    "activation": _activation,
    "norm": _norm,
    "core": _core,
    "sequence": _sequence,
}


def _weights(result: Affine, value: Expr) -> dict[str, Expr]:
    """W' and b', whichever change, of an affine map."""
    weight = result.matrix
    if result.scale is not None:
        raise NotLinearError(value, "adds its input as it is")
    found: dict[str, Expr] = {}
    if weight != Name("W"):
        found["W"] = Number(0) if weight is None else weight
    if result.shift != Name("b"):
        found["b"] = Number(0) if result.shift is None else result.shift
    return found


def _scope(scope: Scope, into: str) -> Scope:
    """The scope of an equation with the weight and bias of the slot that takes it in."""
    sizes = ARCHITECTURE.slot(into).sizes
    dims: dict[str, tuple[Size, ...]] = {
        "W": (parse_size(sizes["d_out"]), parse_size(sizes["d_in"])),
        "b": (parse_size(sizes["d_out"]),),
    }
    entries = dict(scope.entries)
    for name, shape in dims.items():
        entries[name] = Entry(Kind(shape), "quantity", f"{name} of {into}")
    return Scope(into, entries)


def _lengthens(values: Iterable[Expr]) -> Expr | None:
    return next(
        (node for value in values for node in walk(value) if isinstance(node, Call) and TABLE[node.op].lengthens), None
    )
