"""The torch module of an insertion at a site, as readable source: one class for each slot and set of sizes. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from peftref.analyse.alone import alone
from peftref.analyse.group import meter
from peftref.design.insertion import Insertion
from peftref.design.placement import Placement, numbers
from peftref.design.technique import Technique
from peftref.language.expr import Expr, names, walk
from peftref.language.rewrite.computed import computed
from peftref.language.rewrite.constant import foldable
from peftref.language.rewrite.cost import Load, Meter
from peftref.language.rewrite.optimise import optimise
from peftref.language.rewrite.share import product, products
from peftref.language.scope import Leaf, Scope
from peftref.language.show import show
from peftref.modules.compile.emit import Emitter
from peftref.modules.compile.module_name import class_name


@dataclass(frozen=True)
class SiteSource:
    """A generated class: its name and text, what its forward reads and gives, and its leaves.

    mixes: whether it reads other tokens, and so needs to know the running call. stacked: the leaves whose product with x is made
    together with those of other sites.
    """

    name: str
    text: str
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    leaves: tuple[str, ...]
    mixes: bool = False
    stacked: tuple[str, ...] = ()

    def __deepcopy__(self, memo: object) -> SiteSource:
        return self


@dataclass(frozen=True)
class SitePlan:
    """What a class will compute: its name, and each of its values in its cheapest form over the leaves of an insertion.

    sizes: sizes and settings as numbers. labels: names that the author gave to parts. products: the leaves whose product with x
    can be made together with those of other sites.
    """

    name: str
    insertion: Insertion
    scope: Scope
    values: Mapping[str, Expr]
    sizes: Mapping[str, int | float]
    labels: Mapping[Expr, str]
    leaves: tuple[str, ...]
    products: tuple[str, ...]

    def source(self, stacked: tuple[str, ...] = ()) -> SiteSource:
        """The class as source. stacked: the leaves whose product with x is made elsewhere."""
        leaves, wanted = self.insertion.leaves, list(self.values.values())
        read = frozenset().union(*(names(value) for value in wanted))
        quantities = [name for name, entry in self.scope.entries.items() if entry.role == "quantity"]
        used = [name for name in quantities if name in read] + sorted(name for name in read if "." in name)
        whole = {name: value for name, value in self.sizes.items() if isinstance(value, int)}
        tensors = {name: _read(leaves[name], whole) for name in self.leaves}
        tensors |= {name: name.replace(".", "_") for name in used}
        nodes = {node for value in wanted for node in walk(value)}
        labels = {expr: label for expr, label in self.labels.items() if expr in nodes}
        given = {product(leaf): f"self.project_{leaf}(x)" for leaf in stacked}
        kept = _kept(self.scope, wanted, leaves, self.sizes, tensors, labels)
        for block in kept:
            given |= dict(zip(block.parts, block.names, strict=True))
        emitter = Emitter(self.scope, self.sizes, tensors, labels, given)
        results = emitter.block(wanted)
        mixes = any("self.context" in line for line in (*emitter.lines, *results))
        more = (*(f"project_{leaf}" for leaf in stacked), *(["context"] if mixes else []))
        body = [block.call for block in kept] + emitter.lines
        reads = [tensors[name] for name in used]
        text = _class(self.name, self.insertion, self.leaves, more, kept, reads, body, results)
        return SiteSource(self.name, text, tuple(used), tuple(self.values), self.leaves, mixes, stacked)


def site_plan(technique: Technique, placement: Placement, *, load: Load | None = None) -> SitePlan:
    """What a technique computes at one of its sites."""
    site, effect = placement.site, placement.effect
    title, sizes = class_name(technique.name, site.slot), numbers(site, technique.settings)
    values = computed(effect, site.lacks, sizes)
    return value_plan(title, placement.insertion, effect.scope, values, sizes, labels=effect.labels, load=load)


def alone_plan(technique: Technique, placement: Placement, *, load: Load | None = None) -> SitePlan | None:
    """What a technique computes alone on a whole linear map, if adding to the weight first is the cheaper form."""
    site, effect, given = placement.site, placement.effect, placement.insertion
    if not site.whole:
        return None
    title, sizes = f"{class_name(technique.name, site.slot)}Alone", numbers(site, technique.settings)
    found = alone(given, effect, site.lacks, sizes, meter(technique, placement, load or Load()))
    if found is None:
        return None
    return value_plan(title, given, effect.scope, {"h": found.value}, sizes, labels=effect.labels, load=load)


def value_plan(
    title: str,
    insertion: Insertion,
    scope: Scope,
    values: Mapping[str, Expr],
    sizes: Mapping[str, int | float],
    *,
    labels: Mapping[Expr, str] = MappingProxyType({}),
    load: Load | None = None,
) -> SitePlan:
    """Some values over the leaves of an insertion, each brought into its cheapest form."""
    measure = Meter.training(scope, insertion.leaves.values(), sizes, load or Load())
    better = {name: optimise(value, measure)[0] for name, value in values.items()}
    read = frozenset().union(*(names(value) for value in better.values()))
    own = tuple(name for name in insertion.leaves if name in read)
    return SitePlan(title, insertion, scope, better, sizes, labels, own, products(better.values(), own, measure))


@dataclass(frozen=True, slots=True)
class _Kept:
    """A method that makes values of leaves alone: its name, the leaves it reads, the values, and what they are called."""

    method: str
    leaves: tuple[str, ...]
    parts: tuple[Expr, ...]
    names: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def call(self) -> str:
        """The line of forward that gets the values."""
        return f"{', '.join(self.names)} = self.keep_{self.method}(self.{self.method})"


def _kept(
    scope: Scope,
    values: Iterable[Expr],
    leaves: Mapping[str, Leaf],
    sizes: Mapping[str, int | float],
    tensors: Mapping[str, str],
    labels: Mapping[Expr, str],
) -> list[_Kept]:
    """What does not depend on the input, apart by whether its leaves are trained: it is made once where they stay the same."""
    parts = list(dict.fromkeys(part for value in values for part in foldable(value, scope)))
    blocks: list[_Kept] = []
    for method, trained in (("frozen", False), ("made", True)):
        own = [
            part for part in parts if any(leaves[name].trainable for name in names(part) if name in leaves) == trained
        ]
        if own:
            emitter = Emitter(scope, sizes, tensors, labels)
            results = emitter.block(own)
            read = tuple(name for name in leaves if any(name in names(part) for part in own))
            called = tuple(f"{method}_{i + 1}" for i in range(len(own))) if len(own) > 1 else (f"{method}_1",)
            lines = (*emitter.lines, f"return {', '.join(results)}")
            blocks.append(_Kept(method, read, tuple(own), called, lines))
    return blocks


def _read(leaf: Leaf, sizes: Mapping[str, int]) -> str:
    """The source that reads a leaf at a site: the leading part that fits, where it is shared by sites of other sizes."""
    if _site(leaf):
        return f"self.{leaf.name}"
    part = ", ".join(f":{dim.evaluate(sizes)}" for dim in leaf.dims) if leaf.fit else ""
    return f"self.shared.{leaf.name}" + (f"[{part}]" if part else "")


def _site(leaf: Leaf) -> bool:
    return leaf.scope == "site"


def _class(
    title: str,
    insertion: Insertion,
    own: tuple[str, ...],
    more: tuple[str, ...],
    kept: list[_Kept],
    reads: list[str],
    lines: list[str],
    results: list[str],
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
    for block in kept:
        text.append(f"        self.keep_{block.method} = op.Keep({', '.join(block.leaves)})")
    for block in kept:
        text += ["", f"    def {block.method}(self):", *(f"        {line}" for line in block.lines)]
    text += ["", f"    def forward(self{''.join(f', {name}' for name in reads)}):"]
    text += [f"        {line}" for line in lines]
    text.append(f"        return {', '.join(results)}")
    return "\n".join(text) + "\n"
