"""A technique, an explanation and a difference as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from peftref.analyse.cost import Costs
from peftref.analyse.diff import Diff, Relative
from peftref.analyse.explain import Explanation
from peftref.analyse.merge import merge_rules
from peftref.design.insertion import insertions
from peftref.design.procedures import PROCEDURES
from peftref.design.technique import Technique
from peftref.language.show import show
from peftref.language.typeset.latex import latex_display
from peftref.language.typeset.notate import lines


def technique_lines(technique: Technique) -> Iterator[str]:
    """What a technique is: its source, settings, and for every insertion where it stands, its equation and its leaves."""
    yield f"{technique.title} ({technique.name})"
    if technique.about:
        yield technique.about
    source = technique.source
    if source is not None:
        parts = [
            f"arXiv {source.arxiv}" if source.arxiv else "",
            source.url or "",
            str(source.year or ""),
            source.note or "",
        ]
        yield "source: " + ", ".join(part for part in parts if part)
    if technique.settings:
        yield "settings: " + ", ".join(f"{name} = {value}" for name, value in technique.settings.items())
    if technique.carries:
        told = ", ".join(f"{name} [{', '.join(shape)}]" for name, shape in technique.carries.items())
        yield f"carries from layer to layer, for each token, zero at first: {told}"
    if technique.tune != "none":
        tuned = technique.tune if isinstance(technique.tune, str) else ", ".join(technique.tune)
        yield f"trains the host's own parameters: {tuned}"
    for insertion in insertions(technique):
        where = [] if insertion.layers.rule == "all" else [f"layers: {insertion.layers}"]
        where += [f"stacks: {', '.join(insertion.stacks)}"] if insertion.stacks else []
        yield ""
        yield f"at {', '.join(insertion.at)}" + (f" ({'; '.join(where)})" if where else "")
        yield from (f"    {line}" for line in show(insertion.equation).splitlines())
        for name, leaf in insertion.leaves.items():
            words = [f"[{', '.join(dim.show() for dim in leaf.dims)}]", f"starts as {_init(leaf.init, leaf.init_args)}"]
            words += [] if leaf.scope == "site" else [f"one for each {leaf.scope}"]
            words += [] if leaf.trainable else ["frozen"]
            words += [] if leaf.lr == 1 else [f"learns at {leaf.lr} times the rate"]
            yield f"  {name}: {', '.join(words)}"
    rules = list(dict.fromkeys(rule.show() for rule in merge_rules(technique)))
    if rules:
        yield ""
        yield "merging:"
        yield from (f"  {rule}" for rule in rules)
    if technique.procedures:
        yield ""
        yield "procedures:"
        for procedure in technique.procedures:
            told = ", ".join(f"{name} {value}" for name, value in procedure.settings.items())
            yield f"  {procedure.name}: {PROCEDURES[procedure.name].about} ({told})"
    if technique.note:
        yield ""
        yield f"note: {technique.note}"


def _init(name: str, arguments: Iterable[tuple[str, object]]) -> str:
    shown = ", ".join(f"{key} {value}" for key, value in arguments)
    return f"{name} ({shown})" if shown else name


def technique_latex(technique: Technique) -> str:
    """The equations of a technique as LaTeX, one display of amsmath per insertion."""
    found = insertions(technique)
    displays = [
        f"% at {', '.join(insertion.at)}\n{latex_display(lines(insertion.equation, insertion.scope))}"
        for insertion in found
    ]
    return "\n".join(["% \\usepackage{amsmath}", *displays] if found else [f"% {technique.name} has no equation"])


def diff_lines(found: Diff) -> Iterator[str]:
    """In what two techniques differ, by kind."""
    if not found:
        yield f"{found.one} and {found.other} do not differ"
        return
    groups = (
        ("properties", found.properties),
        ("slots", found.slots),
        ("equations", found.equations),
        ("leaves", found.leaves),
        ("settings", found.settings),
    )
    for title, differences in groups:
        if differences:
            yield f"{title}:"
            for each in differences:
                yield f"  {each.what}"
                yield f"    {found.one}: {each.one or '-'}"
                yield f"    {found.other}: {each.other or '-'}"


def relatives_lines(found: Iterable[Relative]) -> Iterator[str]:
    """The nearest techniques and what tells them apart."""
    for each in found:
        differing = f"differs in {', '.join(each.differing)}" if each.differing else "equal in all nine properties"
        yield f"  {each.name}: {differing}"


LEAST = 0.005
"""The least share of the frozen host's step that is told."""


def explanation_lines(found: Explanation) -> Iterator[str]:
    """How each part is computed on a host, and why."""
    yield f"{found.technique} on {found.host}, {found.batch} x {found.length} tokens, forward and backward"
    yield from (f"  {line}" for line in cost_lines(found.costs))
    yield f"  a step, counted: {found.step:.2f} of the frozen host's"
    yield from (f"    {each.share:+.2f}  {each.reason}" for each in found.shares if abs(each.share) >= LEAST)
    for part in found.parts:
        yield ""
        yield f"{part.slot}, {part.quantity}' at {part.sites} site{'s' * (part.sites > 1)}"
        yield f"  naive:  {part.naive}"
        yield f"          {_cost(part.naive_cost.flops, part.naive_cost.backward, part.naive_cost.elements, part.naive_cost.saved)}"
        if part.chosen == part.naive:
            yield "  chosen: the same; no law makes it cheaper at this size"
        else:
            yield f"  chosen: {part.chosen}"
            yield f"          {_cost(part.chosen_cost.flops, part.chosen_cost.backward, part.chosen_cost.elements, part.chosen_cost.saved)}"
        for step in part.steps:
            times = step.score_before / max(1, step.score_after)
            yield f"  why:    {', '.join(step.laws)}: {times:.3g} times cheaper ({step.score_before:,} to {step.score_after:,})"
        if part.together:
            yield f"  shared: {', '.join(f'{leaf} @ x' for leaf in part.together)} in one product with the other sites that read this x"
        for kept in part.kept:
            yield f"  kept:   {kept}, made again only when a leaf has changed"
        yield f"  merge:  {part.merge}"


def cost_lines(found: Costs) -> Iterator[str]:
    """What a technique costs in a training step, beside what the host costs."""
    yield (
        f"FLOPs per token: {found.forward:+,.0f} forward on the host's {found.host_forward:,.0f}, "
        f"{found.backward:+,.0f} backward on {found.host_backward:,.0f}"
    )
    yield f"kept for backward by its own equations: {found.saved_bytes:,} bytes; AdamW's moments: {found.state:,} bytes (single precision)"
    reach = ", ".join(f"layer {layer} of {stack}" for stack, layer in found.reaches)
    yield f"back-propagation goes down to {reach}" if reach else "nothing is propagated back into the host"
    if found.extra_tokens:
        yield f"the sequence grows by {found.extra_tokens} tokens"
    if found.extra_keys:
        yield f"attention sees {found.extra_keys} keys and values more"


def _cost(forward: int, backward: int, elements: int, saved: int) -> str:
    return (
        f"{forward:,} FLOPs forward, {backward:,} backward, {elements:,} numbers written, {saved:,} kept for backward"
    )
