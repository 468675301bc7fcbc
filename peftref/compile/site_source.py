"""The torch module of an insertion at a site, as readable source: one class for each slot and set of sizes. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from peftref.compile.emit import Emitter
from peftref.design.insertion import Insertion
from peftref.lang.check import Effect
from peftref.lang.expr import Call, Expr, Name, call, names, rebuild, walk
from peftref.lang.scope import Leaf, Scope
from peftref.lang.show import show
from peftref.rewrite.cost import Load, Meter
from peftref.rewrite.optimise import Decision, optimise
from peftref.rewrite.output import output


@dataclass(frozen=True)
class SiteSource:
    """A generated class: its name and text, what its forward reads and gives, its leaves, the decisions behind its form.

    mixes: whether it reads other tokens, and so needs to know the running call. stacked: the leaves whose product with x is made
    together with those of other sites.
    """

    name: str
    text: str
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    leaves: tuple[str, ...]
    values: tuple[Expr, ...]
    decisions: tuple[Decision, ...]
    mixes: bool = False
    stacked: tuple[str, ...] = ()

    def products(self) -> tuple[str, ...]:
        """The leaves that are multiplied with x as it comes in: their products can be one with those of other sites."""
        nodes = {node for value in self.values for node in walk(value)}
        return tuple(leaf for leaf in self.leaves if _product(leaf) in nodes)

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
    stacked: tuple[str, ...] = (),
) -> SiteSource:
    """The class of an insertion at a slot, for sizes and settings as numbers."""
    values = {name: _without_dropout(value, numbers) for name, value in replacements(effect, lacks).items()}
    return value_source(
        title, insertion, effect.scope, values, numbers, labels=effect.labels, load=load, stacked=stacked
    )


def _product(leaf: str) -> Expr:
    return call("matmul", Name(leaf), Name("x"))


def _without_dropout(expr: Expr, numbers: Mapping[str, int | float]) -> Expr:
    """The expression without dropout where its rate is zero."""
    if isinstance(expr, Call) and expr.op == "dropout":
        rate = expr.args[1] if len(expr.args) > 1 else Name("dropout")
        value = numbers.get(rate.name) if isinstance(rate, Name) else getattr(rate, "value", None)
        if value == 0:
            return _without_dropout(expr.args[0], numbers)
    return rebuild(expr, lambda child: _without_dropout(child, numbers))


def value_source(
    title: str,
    insertion: Insertion,
    scope: Scope,
    values: Mapping[str, Expr],
    numbers: Mapping[str, int | float],
    *,
    labels: Mapping[Expr, str] = MappingProxyType({}),
    load: Load | None = None,
    stacked: tuple[str, ...] = (),
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
    given = {_product(leaf): f"self.project_{leaf}(x)" for leaf in stacked}
    own_labels = {expr: label for expr, label in labels.items() if expr in nodes}
    emitter = Emitter(scope, numbers, tensors, own_labels, given)
    results = emitter.block(list(better.values()))
    mixes = any("self.context" in line for line in (*emitter.lines, *results))
    more = (*(f"project_{leaf}" for leaf in stacked), *(["context"] if mixes else []))
    text = _class(title, insertion, own, more, [tensors[name] for name in used], emitter.lines, results, better)
    values_made = tuple(better.values())
    return SiteSource(title, text, tuple(used), tuple(better), own, values_made, tuple(decisions), mixes, stacked)


def _site(leaf: Leaf) -> bool:
    return leaf.scope == "site"


def _class(
    title: str,
    insertion: Insertion,
    own: tuple[str, ...],
    more: tuple[str, ...],
    reads: list[str],
    lines: list[str],
    results: list[str],
    values: Mapping[str, Expr],
) -> str:
    leaves = insertion.leaves
    shared = [name for name in own if not _site(leaves[name])]
    signature = "".join(f", {name}" for name in (*own, *more))
    text = [f"class {title}(nn.Module):", f'    """{show(insertion.equation)}'.replace("\n", "\n    "), ""]
    text += [f"    {name}: [{', '.join(dim.show() for dim in leaves[name].dims)}], {leaves[name].init}" for name in own]
    text += ['    """', "", f"    def __init__(self{signature}):", "        super().__init__()"]
    text += [f"        self.{name} = {name}" for name in own if _site(leaves[name])]
    if shared:
        text.append(f"        self.shared = Shared({', '.join(f'{name}={name}' for name in shared)})")
    text += [f"        self.{name} = {name}" for name in more]
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
