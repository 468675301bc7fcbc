"""The typology: PEFT-Ref's properties, computed from a technique's equation, each with the reason for its value.

The names of the properties are those of PEFT-Ref (arXiv 2304.12410); every value is read off from the tree, none is declared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from peftref.analyse.connectivity import connectivity, gate
from peftref.analyse.form import replaced
from peftref.analyse.formula import formula
from peftref.analyse.identity import identity
from peftref.analyse.merge import Blocked
from peftref.analyse.reading import Part, Reading
from peftref.analyse.row import Cell, Row
from peftref.design.load import load
from peftref.design.technique import Technique
from peftref.host.architecture import ARCHITECTURE, GROUPS
from peftref.host.architecture import WORDS as SLOT_WORDS
from peftref.language.expr import Call, Expr, Name, Text, names, walk
from peftref.language.ops import TABLE
from peftref.language.rewrite.constant import depends
from peftref.language.rewrite.output import addends
from peftref.language.show import show

WORDS = {
    "ffn": "FFN",
    "cross_attention": "cross attention",
    "attention": "attention",
    "self_attention": "self attention",
}


def typology(techniques: Sequence[Technique | str]) -> tuple[Row, ...]:
    """The typology rows of some techniques. Raises PeftrefError where one of them is none.

    >>> row = typology(["lora"])[0]
    >>> row["adapted"], row["integration"], row["workspace"]
    ('reparameterisation', 'scaled addition', 'attention query, value')
    """
    return tuple(_row(load(each) if isinstance(each, str) else each) for each in techniques)


def _row(technique: Technique) -> Row:
    reading, source = Reading(technique), technique.source
    cells = {name: derive(reading) for name, derive in PROPERTIES.items()}
    year, arxiv = (source.year, source.arxiv) if source is not None else (None, None)
    return Row(technique.name, technique.title, year, arxiv, technique.about, cells)


def _joined(cells: Iterator[Cell] | list[Cell], tuned: Cell) -> Cell:
    """Equal values once, in their order; a technique that only trains the host's own parameters has the cell `tuned`."""
    found: dict[str, str] = {}
    for cell in cells:
        found.setdefault(cell.value, cell.reason)
    if not found:
        return tuned
    return Cell("; ".join(found), "; ".join(dict.fromkeys(found.values())))


def _intra(reading: Reading) -> Cell:
    cells = [connectivity(part, reading.changes.get(id(part.effect))) for part in reading.parts]
    return _joined(cells, Cell("none", "it adds no tensor"))


def _change(reading: Reading) -> Cell:
    cells = [
        Cell(change.show(), rule.show())
        for rule, change in zip(reading.rules, reading.changes.values(), strict=True)
        if change is not None
    ]
    own = Cell("no bound of its rank", "tune in its file") if reading.technique.tune != "none" else None
    return _joined(cells, own or Cell("none", "no weight is changed, or what is done is no change of one"))


def _inter(reading: Reading) -> Cell:
    return _joined([gate(part) for part in reading.parts], Cell("fixed", "it adds nothing that could switch"))


def _adapted(reading: Reading) -> Cell:
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


def _sharing(reading: Reading) -> Cell:
    shared = {
        name: leaf.scope
        for insertion in reading.insertions
        for name, leaf in insertion.leaves.items()
        if leaf.scope != "site"
    }
    tied = {name: node for part in reading.parts for name, node in _tied(part).items()}
    reasons = [", ".join(f"{name} by the {scope}" for name, scope in shared.items())] if shared else []
    reasons += [f"{name} stands in {show(node)} and transposed beside it" for name, node in tied.items()]
    if reasons:
        return Cell("; ".join(["shared"] * bool(shared) + ["tied"] * bool(tied)), "; ".join(reasons))
    return Cell("none", "every leaf belongs to one site")


def _tied(part: Part) -> dict[str, Expr]:
    """Leaves that are a factor of one product as they are, and of another one transposed."""
    plain: dict[str, Expr] = {}
    turned: set[str] = set()
    for node in walk(part.form.value):
        for arg in node.args if isinstance(node, Call) and node.op == "matmul" else ():
            match arg:
                case Name(name) if name in part.insertion.leaves:
                    plain.setdefault(name, node)
                case Call("transpose", (Name(name),)):
                    turned.add(name)
    return {name: node for name, node in plain.items() if name in turned}


def _input(reading: Reading) -> Cell:
    return _joined([_read(part) for part in reading.parts], Cell("none", "it adds nothing that reads"))


def _read(part: Part) -> Cell:
    new = part.form.new
    read = names(new) & set(part.effect.scope.entries)
    quantities = {name for name in read if part.effect.scope.entries[name].role == "quantity"}
    if "x" in quantities:
        return Cell("data", f"{show(new)} reads x")
    if quantities - {"W", "b", "g", "E"}:
        return Cell("hidden", f"{show(new)} reads {', '.join(sorted(quantities))}")
    return Cell("weights", f"{show(new)} reads no value of the input")


def _insertion(reading: Reading) -> Cell:
    return _joined([_place(part) for part in reading.meeting], Cell("none", "it adds nothing"))


def _place(part: Part) -> Cell:
    form = part.form
    read = names(form.new) | ({"h"} if "out" in names(form.new) else set())
    if form.integration in ("rescaling", "replacement") or form.quantity in read:
        return Cell("sequential", f"{form.quantity}' = {show(form.value)} works on {form.quantity}")
    return Cell("parallel", f"{show(form.new)} does not read {form.quantity}")


def _number(reading: Reading) -> Cell:
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


def _integration(reading: Reading) -> Cell:
    cells = []
    for part in reading.meeting:
        value, reason = part.form.integration, f"{part.form.quantity}' = {show(part.form.value)}"
        if value == "concatenation" and part.effect.kind == "core":
            beside = sorted(form.form.quantity for form in reading.parts if form.effect is part.effect)
            value = f"concatenation on {', '.join(beside)} (equal to a gated addition)"  # type: ignore[assignment]  # the text of a cell
        cells.append(Cell(value, reason))
    return _joined(cells, Cell("none", "it adds nothing"))


def _workspace(reading: Reading) -> Cell:
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
        slot = word if word in SLOT_WORDS else word.partition(".")[2]
        component, _, part = slot.rpartition(".")
        named = WORDS.get(component or slot, component or slot)
        groups.setdefault(named, []).extend([part] if component else [])
    separator = "; " if any(groups.values()) else ", "
    shown = separator.join(f"{name} {', '.join(parts)}".strip() for name, parts in groups.items())
    return Cell(shown or "none", f"at: {', '.join(dict.fromkeys(wanted))}" if wanted else "it stands nowhere")


def _mergeable(reading: Reading) -> Cell:
    blocked = [rule.show() for rule in reading.rules if isinstance(rule, Blocked)]
    if blocked:
        return Cell("no", "; ".join(dict.fromkeys(blocked)))
    return Cell(
        "yes", "; ".join(dict.fromkeys(rule.show() for rule in reading.rules)) or "nothing stands beside the host"
    )


def _identity(reading: Reading) -> Cell:
    found = identity(reading.technique)
    return Cell(found.answer, found.reason)


def _length(reading: Reading) -> Cell:
    for part in reading.parts:
        if part.form.integration == "concatenation":
            rows = part.effect.scope.kind(part.form.new).dims[0].show()
            where = "among keys and values" if part.effect.kind == "core" else "in the sequence"
            return Cell(f"{rows}, {where}", f"{part.form.quantity}' = {show(part.form.value)}")
    return Cell("none", "nothing is concatenated")


def _trained(reading: Reading) -> Cell:
    return Cell(formula(reading.technique), "the sizes of its leaves, times how often they stand in one stack")


def _latency(reading: Reading) -> Cell:
    blocked = [rule.show() for rule in reading.rules if isinstance(rule, Blocked)]
    if blocked:
        return Cell("yes", f"it cannot be merged: {blocked[0]}")
    return Cell("none once merged", "it merges") if reading.rules else Cell("none", "nothing stands beside the host")


def _saved(reading: Reading) -> Cell:
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


PROPERTIES: dict[str, Callable[[Reading], Cell]] = {
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
    "change of weight": _change,
    "trained": _trained,
}
"""The columns, in their order: the nine properties of PEFT-Ref, and what users ask for beside them."""
