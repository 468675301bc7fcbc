"""What a technique does to the transformer block, one mark for each replaced quantity of each slot: what a diagram draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from peftref.analyse.form import Integration, meetings
from peftref.design.insertion import Insertion, insertions
from peftref.design.technique import Technique
from peftref.host.architecture import GROUPS, slots_of
from peftref.language.expr import Expr, Name, walk
from peftref.language.rewrite.simplify import simplify
from peftref.language.scope import Scope


@dataclass(frozen=True, slots=True)
class Mark:
    """One module at one slot: the quantity that it replaces, how the new value meets the old one, and what it reads.

    reads: quantities of the slot that the new part reads; siblings: slots of the same layer whose weights it reads. leaves: the
    tensors that it adds, in the order of their first use; trained: whether any of them is. insertions: which insertions of the
    technique do this, from 0. listed: whether the slot is named in the design, and not only meant by a word for all of a kind.
    carried: what of all this is carried from layer to layer beside the stream.
    """

    slot: str
    quantity: str
    integration: Integration
    reads: tuple[str, ...]
    siblings: tuple[str, ...]
    leaves: tuple[str, ...]
    trained: bool
    insertions: tuple[int, ...]
    listed: bool
    carried: frozenset[str] = frozenset()

    @property
    def beside(self) -> bool:
        """Whether it sets what is carried beside the stream, and nothing of the slot."""
        return self.quantity in self.carried

    def words(self) -> str:
        """The mark as a sentence, for those who cannot see it.

        >>> Mark("ffn", "h", "direct addition", ("h",), (), ("U", "D"), True, (0,), True).words()
        'ffn: direct addition to h of a module with U, D, which reads h'
        """
        what = f"{self.integration} {_TO[self.integration]} {self.quantity}"
        if self.beside:
            what = f"{self.quantity}, carried from layer to layer, is set by the output"
        made = f" of a module with {', '.join(self.leaves)}" if self.leaves else ""
        read = [*self.reads, *(f"the weight of {slot}" for slot in self.siblings)]
        return f"{self.slot}: {what}{made}" + (f", which reads {', '.join(read)}" if read else "")


_TO = {
    "concatenation": "to", "direct addition": "to", "scaled addition": "to", "gated addition": "to", "rescaling": "of",
    "replacement": "of",
}  # fmt: skip


def marks(technique: Technique) -> tuple[Mark, ...]:
    """Every mark of a technique, in the order of its insertions; equal ones of several insertions are one.

    >>> from peftref.design.load import load
    >>> [(mark.slot, mark.quantity, mark.reads, mark.leaves) for mark in marks(load("lora"))][:1]
    [('attention.query', 'h', ('x',), ('B', 'A'))]
    """
    found: dict[tuple[object, ...], Mark] = {}
    for position, insertion in enumerate(insertions(technique)):
        for mark in _marks(insertion, position):
            key = (mark.slot, mark.quantity, mark.integration, mark.reads, mark.siblings, mark.leaves)
            known = found.get(key)
            if known is not None:
                both = tuple(sorted({*known.insertions, position}))
                mark = replace(known, insertions=both, listed=known.listed or mark.listed)
            found[key] = mark
    return tuple(found.values())


def tuned_slots(technique: Technique) -> tuple[str, ...]:
    """The slots whose own parameters are trained; `*` for all of the host."""
    if technique.tune == "none":
        return ()
    if technique.tune == "all":
        return ("*",)
    return tuple(dict.fromkeys(slot for word in technique.tune for slot in slots_of(word)))


def _marks(insertion: Insertion, position: int) -> Iterator[Mark]:
    named = {slot for word in insertion.at if word.rpartition(".")[2] not in GROUPS for slot in slots_of(word)}
    for slot, effect in insertion.effects.items():
        for quantity, value in effect.values.items():
            forms = tuple(meetings(quantity, simplify(value), effect, frozenset(insertion.leaves)))
            new = dict.fromkeys(name for form in forms for name in _in_order(form.new))
            main = forms[-1] if len(forms) == 1 else forms[0]
            leaves = tuple(name for name in new if name in insertion.leaves)
            yield Mark(
                slot,
                quantity,
                main.integration,
                tuple(name for name in new if _role(effect.scope, name) == "quantity" and "." not in name),
                tuple(dict.fromkeys(name.rpartition(".")[0] for name in new if "." in name)),
                leaves,
                any(insertion.leaves[name].trainable for name in leaves),
                (position,),
                slot in named,
                effect.carried & {quantity, *new},
            )


def _in_order(expr: Expr) -> Iterator[str]:
    yield from (node.name for node in walk(expr) if isinstance(node, Name))


def _role(scope: Scope, name: str) -> str:
    entry = scope.entry(name)
    return entry.role if entry is not None else ""
