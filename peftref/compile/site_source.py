"""The torch module of an insertion at a site, as readable source: one class for each slot and set of sizes. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from peftref.compile.emit import Emitter
from peftref.design.insertion import Insertion
from peftref.lang.check import Effect
from peftref.lang.expr import Expr, names, walk
from peftref.lang.scope import Leaf, Scope
from peftref.lang.show import show
from peftref.rewrite.cost import Load, Meter
from peftref.rewrite.optimise import Decision, optimise
from peftref.rewrite.output import output


@dataclass(frozen=True)
class SiteSource:
    """A generated class: its name and text, what its forward reads and gives, its leaves, the decisions behind its form.

    mixes: whether it reads other tokens, and so needs to know the running call.
    """

    name: str
    text: str
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    leaves: tuple[str, ...]
    values: tuple[Expr, ...]
    decisions: tuple[Decision, ...]
    mixes: bool = False

    def __deepcopy__(self, memo: object) -> SiteSource:
        return self


def replacements(effect: Effect, lacks: frozenset[str] = frozenset()) -> dict[str, Expr]:
    """What is replaced at a site: at linear slots always h; a quantity that the host lacks is not replaced."""
    values = {name: value for name, value in effect.values.items() if name not in lacks}
    if effect.kind == "linear":
        return {"h": output(effect.values)} if effect.values else {}
    return values


def site_source(
    title: str,
    insertion: Insertion,
    effect: Effect,
    numbers: Mapping[str, int | float],
    *,
    lacks: frozenset[str] = frozenset(),
    load: Load | None = None,
) -> SiteSource:
    """The class of an insertion at a slot, for sizes and settings as numbers."""
    return value_source(
        title, insertion, effect.scope, replacements(effect, lacks), numbers, labels=effect.labels, load=load
    )


def value_source(
    title: str,
    insertion: Insertion,
    scope: Scope,
    values: Mapping[str, Expr],
    numbers: Mapping[str, int | float],
    *,
    labels: Mapping[Expr, str] = MappingProxyType({}),
    load: Load | None = None,
) -> SiteSource:
    """The class that computes some values over the leaves of an insertion, each in its cheapest form."""
    leaves = insertion.leaves
    quantities = [name for name, entry in scope.entries.items() if entry.role == "quantity"]
    learning = frozenset(
        [name for name, leaf in leaves.items() if leaf.trainable]
        + [name for name in quantities if scope.entries[name].kind.per != "none"]
    )
    base = load or Load()
    sizes = {name: value for name, value in numbers.items() if isinstance(value, int)}
    meter = Meter(scope, sizes, Load(base.tokens, base.length, learning))
    decisions: list[Decision] = []
    better: dict[str, Expr] = {}
    for name, value in values.items():
        better[name], made = optimise(value, meter)
        decisions += made
    read = frozenset().union(*(names(value) for value in better.values()))
    used = [name for name in quantities if name in read] + sorted(name for name in read if "." in name)
    own = tuple(name for name in leaves if name in read)
    tensors = {name: f"self.{name}" if _site(leaves[name]) else f"self.shared.{name}" for name in own}
    tensors |= {name: name.replace(".", "_") for name in used}
    nodes = {node for value in better.values() for node in walk(value)}
    emitter = Emitter(scope, numbers, tensors, {expr: label for expr, label in labels.items() if expr in nodes})
    results = emitter.block(list(better.values()))
    mixes = any("self.context" in line for line in (*emitter.lines, *results))
    text = _class(title, insertion, own, [tensors[name] for name in used], emitter.lines, results, better, mixes)
    return SiteSource(title, text, tuple(used), tuple(better), own, tuple(better.values()), tuple(decisions), mixes)


def _site(leaf: Leaf) -> bool:
    return leaf.scope == "site"


def _class(
    title: str,
    insertion: Insertion,
    own: tuple[str, ...],
    reads: list[str],
    lines: list[str],
    results: list[str],
    values: Mapping[str, Expr],
    mixes: bool,
) -> str:
    leaves = insertion.leaves
    shared = [name for name in own if not _site(leaves[name])]
    signature = "".join(f", {name}" for name in (*own, *(["context"] if mixes else [])))
    text = [f"class {title}(nn.Module):", f'    """{show(insertion.equation)}'.replace("\n", "\n    "), ""]
    text += [f"    {name}: [{', '.join(dim.show() for dim in leaves[name].dims)}], {leaves[name].init}" for name in own]
    text += ['    """', "", f"    def __init__(self{signature}):", "        super().__init__()"]
    text += [f"        self.{name} = {name}" for name in own if _site(leaves[name])]
    if shared:
        text.append(f"        self.shared = Shared({', '.join(f'{name}={name}' for name in shared)})")
    text += ["        self.context = context"] if mixes else []
    text += ["", f"    def forward(self{''.join(f', {name}' for name in reads)}):"]
    text += [f"        {line}" for line in lines]
    text.append(f"        return {', '.join(results)}{',' if len(results) == 1 and len(values) != 1 else ''}")
    return "\n".join(text) + "\n"


def settings_as_numbers(settings: Mapping[str, object]) -> dict[str, int | float]:
    """The settings that are numbers."""
    return {
        name: value
        for name, value in settings.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
