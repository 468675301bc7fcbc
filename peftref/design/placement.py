"""Where the insertions of a technique stand on a host, and which copy of each leaf serves which site. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from peftref.core.problem import PeftrefError, Problem, fail
from peftref.design.carry import early_problem, read_early
from peftref.design.insertion import Insertion, insertions
from peftref.design.technique import Technique
from peftref.host.host import Host
from peftref.host.site import Site
from peftref.language.check import Effect
from peftref.language.expr import Call, Expr, Name, names
from peftref.language.ops import TABLE
from peftref.language.scope import ALIASES, Leaf
from peftref.language.size import Size


@dataclass(frozen=True)
class Placement:
    """One insertion at one site: the effect there, and the quantities that are replaced."""

    site: Site
    insertion: Insertion
    effect: Effect

    def __deepcopy__(self, memo: object) -> Placement:
        return self

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The leaves that this site needs: those that a replaced quantity reads."""
        read = frozenset().union(*(names(value) for value in self.values.values()))
        return tuple(leaf for name, leaf in self.insertion.leaves.items() if name in read)

    @property
    def values(self) -> Mapping[str, Expr]:
        """What is replaced; a quantity that this host lacks is not, save by an addition to it at a linear slot."""
        if self.effect.kind == "linear":
            return self.effect.values
        return {name: value for name, value in self.effect.values.items() if name not in self.site.lacks}


@dataclass(frozen=True)
class Copy:
    """One tensor of a technique on a host: its name, its leaf, its symbolic and real shape, and the sites that it serves."""

    name: str
    leaf: Leaf
    dims: tuple[Size, ...]
    shape: tuple[int, ...]
    sites: tuple[Site, ...]

    def __deepcopy__(self, memo: object) -> Copy:
        return self

    @property
    def numel(self) -> int:
        """How many numbers it has."""
        total = 1
        for extent in self.shape:
            total *= extent
        return total


def placements(technique: Technique, host: Host) -> tuple[Placement, ...]:
    """Every site at which a technique stands on a host; raises PeftrefError where it stands nowhere or cannot."""
    found: list[Placement] = []
    problems: list[Problem] = []
    for insertion in insertions(technique):
        try:
            sites = _chosen(insertion, host, technique)
        except PeftrefError as error:
            problems += [] if insertion.optional else error.problems
            continue
        placed = [Placement(site, insertion, _had(insertion.effects[site.slot], site)) for site in sites]
        found += [placement for placement in placed if placement.values]
        problems += [problem for placement in placed for problem in _unread(placement, host)]
        problems += _no_past(placed, host)
    problems += [] if problems else _early(found, host)
    if problems:
        raise PeftrefError(problems)
    if technique.insert and not found:
        raise fail("no-sites", f"{technique.name} stands nowhere on {host.name}", hint="look at: peftref slots")
    return tuple(found)


def _had(effect: Effect, site: Site) -> Effect:
    """What an effect is where a linear slot has no bias: one that is added to is made, and one that is scaled is left out."""
    if effect.kind != "linear" or "b" not in site.lacks or not scaled("b", effect.values.get("b")):
        return effect
    return replace(effect, values={name: value for name, value in effect.values.items() if name != "b"})


def scaled(name: str, value: Expr | None) -> bool:
    """Whether a value reads a name other than as a term of a sum."""
    match value:
        case Call("add" | "sub", (left, right)):
            return scaled(name, left) or scaled(name, right)
        case None | Name():
            return False
    return name in names(value)


def _unread(placement: Placement, host: Host) -> Iterator[Problem]:
    """What is read and not to be had there: an embedding matrix in an init, what enters a sublayer or what it is added to."""
    site, ports = placement.site, placement.site.ports
    read = frozenset().union(*(names(value) for value in placement.values.values()))
    for name, port in (("x", "x"), ("res", "res"), ("out", "res")) if site.kind == "sublayer" else ():
        if name in read and port not in ports:
            yield Problem("unknown-quantity", f"{site.name} of {host.name} has no {name}", hint="read h there")
    for leaf in placement.leaves:
        if "E" in placement.site.lacks and "E" in dict(leaf.init_args).values():
            text = f"{placement.site.name} of {host.name} has no embedding matrix for {leaf.name} to begin from"
            yield Problem("unknown-quantity", text, hint="give the leaf another init")


def _no_past(placed: list[Placement], host: Host) -> list[Problem]:
    """What would stand in the cache of attention that a host computes itself, and is no past of every layer, counted like tokens."""
    behind = [placement for placement in placed if placement.site.form == "cache"]
    stacks = {each.site.stack for each in behind}
    layers = [len({each.site.layer for each in behind if each.site.stack == name}) for name in stacks]
    if layers == [host.stack(name).n_layers for name in stacks] and all(map(_past, behind)):
        return []
    text = f"{host.name} computes attention itself: there, keys and values of all layers can begin with rows that are counted, and no more"
    return [
        Problem(
            "core-own", text, hint="a prompt at `embedding`, or a host that attends through transformers' interface"
        )
    ]


def _past(placement: Placement) -> bool:
    """Whether a placement puts rows of its own in front of keys and values, and does nothing else."""

    def rows(name: str, value: Expr) -> bool:
        if not isinstance(value, Call) or not TABLE[value.op].lengthens or name not in ("k", "v"):
            return False
        *front, last = value.args
        return last == Name(name) and all(placement.effect.scope.kind(each).per == "none" for each in front)

    return placement.insertion.counted and all(rows(name, value) for name, value in placement.values.items())


def _early(placed: list[Placement], host: Host) -> Iterator[Problem]:
    """What is carried, and read in a stack before anything sets it there."""
    if not any(placement.effect.carries for placement in placed):
        return
    order = {site.name: position for position, site in enumerate(host.sites)}
    for stack in host.stacks:
        inside = sorted((each for each in placed if each.site.stack == stack.name), key=lambda e: order[e.site.name])
        steps = [(each.site.layer, number, each.effect) for number, each in enumerate(inside)]
        for name, number in read_early(steps).items():
            yield early_problem(name, f" at {inside[number].site.name} of {host.name}")


def _chosen(insertion: Insertion, host: Host, technique: Technique) -> tuple[Site, ...]:
    sites = host.select(insertion.at, insertion.stacks)
    chosen: list[Site] = []
    for stack in host.stacks:
        inside = [site for site in sites if site.stack == stack.name]
        deep = sum(site.layer is not None and not site.within for site in inside)
        for site in inside:
            if site.layer is None:
                wanted = insertion.layers.rule == "all"
            else:
                many = stack.n_layers if site.within else deep
                wanted = site.layer in insertion.layers.choose(many, technique.settings)
            chosen += [site] if wanted else []
    return tuple(chosen)


def copy_name(leaf: Leaf, site: Site) -> str:
    """The name of the copy of a leaf that serves a site: equal names are one tensor.

    >>> site = Site("attention.query", "decoder", 3, "q_proj", {})
    >>> [copy_name(Leaf("A", (), scope=scope), site) for scope in ("site", "layer", "slot", "design")]
    ['decoder.3.attention.query.A', 'decoder.3.A', 'decoder.attention.query.A', 'A']
    """
    layer = [] if site.layer is None else [str(site.layer), *([] if site.within else [site.slot])]
    parts = {
        "site": [site.name],
        "layer": [site.stack, *layer],
        "slot": [site.stack, site.slot],
        "design": [],
    }[leaf.scope]
    return ".".join([*parts, leaf.name])


def numbers(site: Site, settings: Mapping[str, object]) -> dict[str, int | float]:
    """Sizes of a site and settings, as the numbers that an equation reads there."""
    sizes = dict(site.sizes)
    for name, same in ALIASES[site.kind].items():
        if same in sizes:
            sizes[name] = sizes[same]
    plain = {k: v for k, v in settings.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return {**sizes, **plain}


def copies(technique: Technique, placed: tuple[Placement, ...]) -> tuple[Copy, ...]:
    """The tensors of a technique on a host, each once.

    Raises PeftrefError `indivisible` for sizes that do not divide, and `shared-shape` where sites that share a leaf differ in size.
    """
    found: dict[str, Copy] = {}
    problems: dict[str, Problem] = {}
    for placement in placed:
        values = {k: v for k, v in numbers(placement.site, technique.settings).items() if isinstance(v, int)}
        alias = {k: Size.symbol(v) for k, v in ALIASES[placement.site.kind].items()}
        for leaf in placement.leaves:
            name = copy_name(leaf, placement.site)
            dims = tuple(dim.substitute(alias) for dim in leaf.dims)
            try:
                shape = tuple(dim.evaluate(values) for dim in dims)
            except PeftrefError as error:
                problems |= {problem.text: problem for problem in error.problems}
                continue
            known = found.get(name)
            if known is not None and leaf.fit:
                shape = tuple(max(pair) for pair in zip(known.shape, shape, strict=True))
            elif known is not None and known.shape != shape:
                text = f"the leaf {leaf.name} is shared by sites that need {list(known.shape)} and {list(shape)}"
                problems[text] = Problem("shared-shape", text, hint="narrow its scope, or the slots of the insertion")
            sites = (*known.sites, placement.site) if known else (placement.site,)
            found[name] = Copy(name, leaf, known.dims if known else dims, shape, sites)
    if problems:
        raise PeftrefError(problems.values())
    return tuple(found.values())
