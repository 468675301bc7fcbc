"""The typology: PEFT-Ref's properties, computed from a technique's equation, each with the reason for its value.

The names of the properties are those of PEFT-Ref (arXiv 2304.12410); every value is read off from the tree, none is declared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from peftref.analyse.constant import constants, depends
from peftref.analyse.form import Form, forms, replaced
from peftref.analyse.identity import identity
from peftref.analyse.merge import Blocked, Merge, merge_rules
from peftref.design.insertion import Insertion, insertions
from peftref.design.load import load
from peftref.design.technique import Technique
from peftref.host.architecture import ARCHITECTURE, GROUPS
from peftref.lang.check import Effect
from peftref.lang.expr import Call, Expr, Name, Text, names, walk
from peftref.lang.ops import TABLE
from peftref.lang.show import show
from peftref.rewrite.output import addends

WORDS = {"ffn": "FFN", "cross_attention": "cross attention", "attention": "attention"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, and what it was read off from."""

    value: str
    reason: str


@dataclass(frozen=True)
class Row:
    """The typology of one technique: a cell for each property, by name."""

    technique: Technique
    cells: dict[str, Cell]

    def __getitem__(self, name: str) -> str:
        return self.cells[name].value


@dataclass(frozen=True, slots=True)
class _Part:
    """One form of one effect of one insertion."""

    insertion: Insertion
    effect: Effect
    form: Form


class _Reading:
    """A technique, read once for all properties."""

    def __init__(self, technique: Technique) -> None:
        self.technique = technique
        self.insertions = insertions(technique)
        self.parts = tuple(
            _Part(insertion, effect, form)
            for insertion in self.insertions
            for effect in insertion.effects.values()
            for form in forms(effect, frozenset(insertion.leaves))
        )

    @cached_property
    def rules(self) -> tuple[Merge | Blocked, ...]:
        """The merge rules of all its parts."""
        return merge_rules(self.technique)


def typology(techniques: Sequence[Technique | str]) -> tuple[Row, ...]:
    """The typology rows of some techniques. Raises PeftrefError where one of them is none.

    >>> row = typology(["lora"])[0]
    >>> row["adapted"], row["integration"], row["workspace"]
    ('reparameterisation', 'scaled addition', 'attention query, value')
    """
    return tuple(_row(load(each) if isinstance(each, str) else each) for each in techniques)


def _row(technique: Technique) -> Row:
    reading = _Reading(technique)
    return Row(technique, {name: derive(reading) for name, derive in PROPERTIES.items()})


def _joined(cells: Iterator[Cell] | list[Cell], tuned: Cell) -> Cell:
    """Equal values once, in their order; a technique that only trains the host's own parameters has the cell `tuned`."""
    found: dict[str, str] = {}
    for cell in cells:
        found.setdefault(cell.value, cell.reason)
    if not found:
        return tuned
    return Cell("; ".join(found), "; ".join(dict.fromkeys(found.values())))


def _intra(reading: _Reading) -> Cell:
    return _joined([_connectivity(part) for part in reading.parts], Cell("none", "it adds no tensor"))


def _connectivity(part: _Part) -> Cell:
    leaves = frozenset(part.insertion.leaves)
    value, scope = part.form.value, part.effect.scope
    made = [each for each in constants(value, scope) if _bends(each, leaves)]
    if part.form.integration == "concatenation" and made:
        return Cell("dense: non-linear MLP while training, embedding after", f"{show(made[0])} depends on leaves alone")
    calls = [node for node in walk(value) if isinstance(node, Call) and names(node) & leaves]
    attention = next((node for node in calls if node.op == "attend"), None)
    if attention is not None:
        own = depends(attention.args[1], scope)
        return Cell("dense: self-attention" if own else "dense: attention to learned rows", show(attention))
    products = [node for node in calls if TABLE[node.op].family == "contraction" and _mixes(node, leaves, part)]
    kron = next((node for node in calls if node.op == "kron"), None)
    blocks = next((node for node in calls if node.op == "block_diag"), None)
    factors = " (Kronecker factors)" if kron else ""
    bend = next((node for node in calls if _activation(node, leaves)), None)
    if bend is not None and products:
        return Cell(f"dense: non-linear MLP{factors}", show(bend))
    if blocks is not None:
        return Cell("sparse: blocks", show(blocks))
    if products or kron:
        return Cell(f"dense: linear MLP{factors}", show(products[0] if products else kron or value))
    if part.form.integration == "concatenation":
        return Cell("dense: embedding", f"{show(part.form.new)} is put in front as it is")
    return Cell("none (element-wise)", f"{show(value)} acts on each number by itself")


def _mixes(node: Call, leaves: frozenset[str], part: _Part) -> bool:
    """Whether a contraction mixes numbers by a leaf that is a matrix, rather than by the host's own weight."""
    operands = [arg for arg in node.args if not isinstance(arg, Text)]
    return any(names(arg) & leaves and len(part.effect.scope.kind(arg).dims) > 1 for arg in operands)


def _activation(node: Call, leaves: frozenset[str]) -> bool:
    """Whether a node bends a product of leaves: an activation of something that a leaf has mixed."""
    family = TABLE[node.op].family
    if node.op == "dropout" or family not in ("activation", "normalisation") or node.op.startswith("norm"):
        return False
    return any(
        isinstance(each, Call) and TABLE[each.op].family == "contraction" and names(each) & leaves
        for each in walk(node)
    )


def _bends(expr: Expr, leaves: frozenset[str]) -> bool:
    return any(isinstance(node, Call) and _activation(node, leaves) for node in walk(expr))


def _inter(reading: _Reading) -> Cell:
    return _joined([_gate(part) for part in reading.parts], Cell("fixed", "it adds nothing that could switch"))


def _gate(part: _Part) -> Cell:
    for node in walk(part.form.value):
        if isinstance(node, Call) and node.op == "mul" and all(depends(arg, part.effect.scope) for arg in node.args):
            return Cell("dynamic", f"{show(node)} weighs one value of the input by another")
    return Cell("fixed", "no factor depends on the input")


def _adapted(reading: _Reading) -> Cell:
    cells = []
    for rule in reading.rules:
        if isinstance(rule, Blocked):
            cells.append(Cell("addition", rule.show()))
        else:
            added = all(Name(name) in addends(value) for name, value in rule.values.items())
            cells.append(Cell("reparameterisation" if added else "reparameterisation (folds into W)", rule.show()))
    kinds = {cell.value for cell in cells}
    if "addition" in kinds:
        cells = [cell for cell in cells if cell.value == "addition"]
    elif len(kinds) > 1:
        cells = [cell for cell in cells if "folds" in cell.value]
    return _joined(cells, Cell("the host's own" if reading.technique.tune != "none" else "none", "tune in its file"))


def _sharing(reading: _Reading) -> Cell:
    shared = {
        name: leaf.scope
        for insertion in reading.insertions
        for name, leaf in insertion.leaves.items()
        if leaf.scope != "site"
    }
    if shared:
        return Cell("shared", ", ".join(f"{name} by the {scope}" for name, scope in shared.items()))
    return Cell("none", "every leaf belongs to one site")


def _input(reading: _Reading) -> Cell:
    return _joined([_read(part) for part in reading.parts], Cell("none", "it adds nothing that reads"))


def _read(part: _Part) -> Cell:
    new = part.form.new
    read = names(new) & set(part.effect.scope.entries)
    quantities = {name for name in read if part.effect.scope.entries[name].role == "quantity"}
    if "x" in quantities:
        return Cell("data", f"{show(new)} reads x")
    if quantities - {"W", "b", "g", "E"}:
        return Cell("hidden", f"{show(new)} reads {', '.join(sorted(quantities))}")
    return Cell("weights", f"{show(new)} reads no value of the input")


def _insertion(reading: _Reading) -> Cell:
    return _joined([_place(part) for part in reading.parts], Cell("none", "it adds nothing"))


def _place(part: _Part) -> Cell:
    form = part.form
    if form.integration in ("rescaling", "replacement") or form.quantity in names(form.new):
        return Cell("sequential", f"{form.quantity}' = {show(form.value)} works on {form.quantity}")
    return Cell("parallel", f"{show(form.new)} does not read {form.quantity}")


def _number(reading: _Reading) -> Cell:
    cells = []
    for insertion in reading.insertions:
        once = all(ARCHITECTURE.slot(slot).component in ("embedding", "final", "head") for slot in insertion.effects)
        rule = insertion.layers
        if once:
            cells.append(Cell("1 layer", f"{', '.join(insertion.at)} stands once in a stack"))
        elif rule.rule == "all":
            cells.append(Cell("all layers", f"at {', '.join(insertion.at)} of every layer"))
        else:
            cells.append(Cell("n layers", f"layers: {rule}"))
    tuned = Cell("all layers" if reading.technique.tune != "none" else "none", "tune in its file")
    return _joined(cells, tuned)


def _integration(reading: _Reading) -> Cell:
    cells = []
    for part in reading.parts:
        value, reason = part.form.integration, f"{part.form.quantity}' = {show(part.form.value)}"
        if value == "concatenation" and part.effect.kind == "core":
            beside = sorted(form.form.quantity for form in reading.parts if form.effect is part.effect)
            value = f"concatenation on {', '.join(beside)} (equal to a gated addition)"  # type: ignore[assignment]  # the text of a cell
        cells.append(Cell(value, reason))
    return _joined(cells, Cell("none", "it adds nothing"))


def _workspace(reading: _Reading) -> Cell:
    wanted = [word for insertion in reading.insertions for word in insertion.at]
    if reading.technique.tune == "all":
        return Cell("everything", "tune: all")
    if reading.technique.tune != "none":
        wanted += list(reading.technique.tune)
    groups: dict[str, list[str]] = {}
    for word in dict.fromkeys(wanted):
        if word in GROUPS:
            groups.setdefault(f"every {word}", [])
            continue
        slot = word if word in ARCHITECTURE.names() else word.partition(".")[2]
        component, _, part = slot.rpartition(".")
        named = WORDS.get(component or slot, component or slot)
        groups.setdefault(named, []).extend([part] if component else [])
    separator = "; " if any(groups.values()) else ", "
    shown = separator.join(f"{name} {', '.join(parts)}".strip() for name, parts in groups.items())
    return Cell(shown or "none", f"at: {', '.join(dict.fromkeys(wanted))}" if wanted else "it stands nowhere")


def _mergeable(reading: _Reading) -> Cell:
    blocked = [rule.show() for rule in reading.rules if isinstance(rule, Blocked)]
    if blocked:
        return Cell("no", "; ".join(dict.fromkeys(blocked)))
    return Cell(
        "yes", "; ".join(dict.fromkeys(rule.show() for rule in reading.rules)) or "nothing stands beside the host"
    )


def _identity(reading: _Reading) -> Cell:
    found = identity(reading.technique)
    return Cell(found.answer, found.reason)


def _length(reading: _Reading) -> Cell:
    for part in reading.parts:
        if part.form.integration == "concatenation":
            rows = part.effect.scope.kind(part.form.new).dims[0].show()
            where = "among keys and values" if part.effect.kind == "core" else "in the sequence"
            return Cell(f"{rows}, {where}", f"{part.form.quantity}' = {show(part.form.value)}")
    return Cell("none", "nothing is concatenated")


def _latency(reading: _Reading) -> Cell:
    blocked = [rule.show() for rule in reading.rules if isinstance(rule, Blocked)]
    if blocked:
        return Cell("yes", f"it cannot be merged: {blocked[0]}")
    return Cell("none once merged", "it merges") if reading.rules else Cell("none", "nothing stands beside the host")


def _saved(reading: _Reading) -> Cell:
    for part in reading.parts:
        trained = {name for name, leaf in part.insertion.leaves.items() if leaf.trainable}
        if part.effect.kind == "norm" and "g" in part.effect.values:
            return Cell("yes", "the gradient of a gain needs what it scales")
        for value in replaced(part.effect).values():
            for node in walk(value):
                if isinstance(node, Call) and len(TABLE[node.op].linear) > 1:
                    sides = [arg for arg in node.args if not isinstance(arg, Text)]
                    if any(
                        names(one) & trained
                        and any(depends(other, part.effect.scope) for other in sides if other is not one)
                        for one in sides
                    ):
                        return Cell("yes", f"the gradient of {show(node)} needs its input")
    return Cell("no", "no leaf is multiplied with a value of the input")


PROPERTIES: dict[str, Callable[[_Reading], Cell]] = {
    "intra": _intra,
    "inter": _inter,
    "adapted": _adapted,
    "sharing": _sharing,
    "input": _input,
    "form": _insertion,
    "insertions": _number,
    "integration": _integration,
    "workspace": _workspace,
    "mergeable": _mergeable,
    "identity at init": _identity,
    "extra length": _length,
    "extra latency": _latency,
    "input kept for backward": _saved,
}
"""The columns, in their order: the nine properties of PEFT-Ref, and what users ask for beside them."""

PEFT_REF = tuple(PROPERTIES)[:9]
