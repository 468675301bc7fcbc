"""The structure of the change of a weight: what is added to W or multiplied with it, and what kind of matrix that is.

It is read off from the rule by which a technique merges, never from its name: every bound is one of the shapes and the ops alone, for
whatever the leaves become.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from peftref.analyse.matrix import Facts, Reader
from peftref.analyse.merge import Merge
from peftref.language.expr import Call, Expr, Name, Number, names
from peftref.language.rewrite.output import addends, total

W = Name("W")


@dataclass(frozen=True, slots=True)
class Structure:
    """W' as `s * (L @ (W + A) @ R)`, or `W * E`: a part that is not there is None.

    rows: whether the rows are scaled by numbers of their own; scaled: whether all of it is by one. left, right: what W is multiplied with. added: what is added to W, before
    it is multiplied; reads: whether that is made from W. entries: what is added to one in the factors of the entries of W. anew: W'
    does not read W.
    """

    rows: bool = False
    scaled: bool = False
    left: Facts | None = None
    right: Facts | None = None
    added: Facts | None = None
    entries: Facts | None = None
    anew: bool = False
    reads: bool = False

    def show(self) -> str:
        """The structure in words: `rank at most r`, `W times an orthogonal matrix of d_in / block blocks`."""
        parts = []
        if self.anew and self.added is not None:
            parts.append(f"W made anew: {self.added.show()}")
        elif self.added is not None:
            parts.append(self.added.show() + (", made from W" if self.reads else ""))
        columns = self.right is not None and self.right.form == "diagonal"
        parts += [f"W times {self.right.noun()}"] if self.right is not None and not columns else []
        parts += [f"{self.left.noun()} times W"] if self.left is not None else []
        parts += [f"entries of W scaled: {self.entries.show()}"] if self.entries is not None else []
        parts += ["rows of W scaled"] if self.rows else []
        parts += ["W scaled"] if self.scaled else []
        parts += ["columns of W scaled"] if columns else []
        return ", ".join(parts)


def structure(rule: Merge, settings: Mapping[str, object]) -> Structure | None:
    """The structure of what a rule makes of W; None where it leaves W as it is. settings: of the technique, by which bounds are compared.

    >>> from peftref.analyse.merge import merge_rules
    >>> from peftref.design.load import load
    >>> shown = lambda name: structure(merge_rules(load(name))[0], load(name).settings).show()
    >>> shown("lora"), shown("shira"), shown("ia3")
    ('rank at most r', 'at most r * (d_in + d_out) entries', 'rows of W scaled')
    """
    value = rule.values.get("W")
    return None if value is None else _structure(value, Reader(rule.scope, rule.insertion.leaves, settings))


def _structure(value: Expr, reader: Reader) -> Structure:
    terms = addends(value)
    if W in terms:
        rest = [term for term in terms if term != W]
        scaled = [each for term in rest if (each := _entries(term, reader)) is not None]
        if len(rest) == len(scaled) == 1:
            return Structure(entries=scaled[0])
        added = total(tuple(rest))
        return Structure(added=reader.facts(added), reads="W" in names(added))
    if "W" not in names(value):
        return Structure(added=reader.facts(value), anew=True)
    match value:
        case Call("mul", (left, right)) if _is_weight(right, reader) and reader.axes(left) < 2:
            return _scaled(right, left, reader)
        case Call("mul", (left, right)) if _is_weight(left, reader) and reader.axes(right) < 2:
            return _scaled(left, right, reader)
        case Call("div", (left, right)) if reader.axes(right) < 2:
            return _scaled(left, right, reader)
        case Call("mul", _) if (entries := _entries(value, reader)) is not None:
            return Structure(entries=entries)
        case Call("matmul", _) | Call("einsum", _):
            return _multiplied(value, reader)
    return Structure(added=Facts(), reads=True)


def _is_weight(expr: Expr, reader: Reader) -> bool:
    return "W" in names(expr) and reader.axes(expr) == 2


def _scaled(inner: Expr, factor: Expr, reader: Reader) -> Structure:
    """What is multiplied by a number or by a vector, which scales rows."""
    found = Structure() if inner == W else _structure(inner, reader)
    vector = reader.axes(factor) > 0
    return replace(found, rows=found.rows or vector, scaled=found.scaled or not vector)


def _entries(value: Expr, reader: Reader) -> Facts | None:
    """By what the entries of W are scaled, each by one of its own; without the one that leaves them as they are."""
    match value:
        case Call("mul", (one, other)) if W in (one, other) and one != other:
            factor = other if one == W else one
            if reader.axes(factor) == 2 and "W" not in names(factor):
                rest = tuple(term for term in addends(factor) if term != Number(1))
                return reader.facts(total(rest))
    return None


def _multiplied(value: Call, reader: Reader) -> Structure:
    """What W is multiplied with from the left and from the right, each without W."""
    if value.op == "einsum":
        left = reader.acting(value)
        return Structure(added=Facts(), reads=True) if left is None else Structure(left=left)
    factors = reader.chain(value)
    at = [number for number, factor in enumerate(factors) if "W" in names(factor)]
    if len(at) != 1:
        return Structure(added=Facts(), reads=True)
    inner = factors[at[0]]
    found = Structure() if inner == W else _structure(inner, reader)
    before = reader.product(factors[: at[0]]) if at[0] else found.left
    after = factors[at[0] + 1 :]
    diagonal = before is not None and before.form == "diagonal"
    return replace(
        found,
        rows=found.rows or diagonal,
        left=None if diagonal else before,
        right=reader.product(after) if after else found.right,
    )
