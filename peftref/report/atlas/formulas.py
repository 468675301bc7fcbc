"""The equations, leaves, counts and merge rules of a technique as set mathematics."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from peftref.analyse.formula import formula_parts
from peftref.analyse.merge import Blocked, merge_rules
from peftref.design.insertion import Insertion, insertions
from peftref.design.technique import Technique
from peftref.language.expr import Name
from peftref.language.parse import parse_expression
from peftref.language.scope import Leaf
from peftref.language.show import show
from peftref.language.size import Size
from peftref.language.typeset.box import Sign, raised
from peftref.language.typeset.letters import symbol
from peftref.language.typeset.mathml import mathml, mathml_lines
from peftref.language.typeset.notate import arithmetic, lines, notate
from peftref.report.atlas.html import table, wide


def equations(technique: Technique) -> str:
    """Every insertion: where it stands, and its equation."""
    parts = []
    for name, shape in technique.carries.items():
        sizes = escape(", ".join(shape))
        parts.append(f'<p class="where">{name_math(name)} is carried from layer to layer: [{sizes}] for each token</p>')
    for insertion in insertions(technique):
        at = ", ".join(f"<code>{escape(word)}</code>" for word in insertion.at)
        stacks = f", in the stack {escape(', '.join(insertion.stacks))}" if insertion.stacks else ""
        layers = "every layer" if insertion.layers.rule == "all" else f"layers: {escape(str(insertion.layers))}"
        parts.append(f'<p class="where">at {at}{stacks}; {layers}</p>')
        parts.append(
            wide(mathml_lines(lines(insertion.equation, insertion.scope), label=show(insertion.equation)), "equation")
        )
    if technique.tune != "none":
        tuned = technique.tune if isinstance(technique.tune, str) else ", ".join(technique.tune)
        parts.append(f'<p class="where">The host\'s own parameters are trained: <code>{escape(tuned)}</code>.</p>')
    elif not parts:
        parts.append('<p class="where">It adds nothing to the host and changes nothing of it.</p>')
    return "\n".join(parts)


def leaves(technique: Technique) -> str:
    """A table of the tensors that a technique adds; nothing where it adds none."""
    found = insertions(technique)
    rows = [
        row
        for number, insertion in enumerate(found)
        for row in _leaf_rows(insertion, number if len(found) > 1 else None)
    ]
    if not rows:
        return ""
    return wide(table(("tensor", "shape", "starts as", "one for each", "trained"), rows), "tensors")


def _leaf_rows(insertion: Insertion, number: int | None) -> Iterator[tuple[str, ...]]:
    for name, leaf in insertion.leaves.items():
        where = "" if number is None else f" <small>({number + 1})</small>"
        arguments = ", ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in leaf.init_args
        )
        starts = leaf.init + (f" ({arguments})" if arguments else "")
        trained = "frozen" if not leaf.trainable else "yes" if leaf.lr == 1 else f"yes, at {leaf.lr} times the rate"
        yield mathml(symbol(name)) + where, _shape(leaf), escape(starts), leaf.scope, escape(trained)


def _shape(leaf: Leaf) -> str:
    if not leaf.dims:
        return "a number"
    return " × ".join(size_math(dim) for dim in leaf.dims)


def size_math(size: Size) -> str:
    """A size as set mathematics."""
    text = size.show()
    return mathml(arithmetic(parse_expression(text)), label=text)


def count_formula(technique: Technique) -> str:
    """The formula of the trained parameters."""
    parts = [
        size_math(size) + (f" at each {escape(word)} slot" if word else "") for word, size in formula_parts(technique)
    ]
    return ", ".join(parts)


def merging(technique: Technique) -> str:
    """The merge rules, equal ones once, with the slots that they hold for."""
    found: dict[str, list[str]] = {}
    for rule in merge_rules(technique):
        if isinstance(rule, Blocked):
            why = (
                escape(rule.reason)
                if rule.where is None
                else f"{mathml(notate(rule.where), label=show(rule.where))} {escape(rule.reason)}"
            )
            found.setdefault(wide(f"not mergeable: {why}", "what keeps it from merging"), []).append(rule.slot)
            continue
        sides = [(raised(symbol(name), Sign("′")), notate(value, rule.scope)) for name, value in rule.values.items()]
        label = "; ".join(f"{name}' = {show(value)}" for name, value in rule.values.items())
        found.setdefault(wide(mathml_lines(sides, label=label), "merge rule"), []).append(rule.into)
    if not found:
        return "<p>Nothing stands beside the host, so there is nothing to merge.</p>"
    return "\n".join(
        f'<div class="rule">{shown}<p class="where">at {", ".join(dict.fromkeys(slots))}</p></div>'
        for shown, slots in found.items()
    )


def name_math(name: str) -> str:
    """A setting's or a size's name as set mathematics."""
    return mathml(notate(Name(name)))
