"""How many parameters a technique trains, stores and needs on a host: as a formula and as numbers, from the host's sizes alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftref.analyse.left_out import left_out
from peftref.design.load import load
from peftref.design.placement import Copy, Placement, copies, copy_name, numbers, placements
from peftref.design.technique import Technique
from peftref.host.architecture import ARCHITECTURE
from peftref.host.host import Host, Stack
from peftref.host.locate.resolve import resolve
from peftref.host.site import Site
from peftref.language.expr import Call, Expr, Name, names
from peftref.language.read_size import parse_size
from peftref.language.rewrite.constant import constants
from peftref.language.size import Size

if TYPE_CHECKING:
    from peftref.host.locate.resolve import HostLike


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of parameters. None of them includes a task head, which is `head` more where it is trained.

    trained: get a gradient. stored: stand in the saved module. inference: needed to run it unmerged once it is trained.
    formula: `trained` in the host's sizes and the technique's settings; numbers: the value of each symbol in it.
    host_parameters: of the host without its head. head: of the host's own head, 0 where its class has none.
    notes: what is left out on this host, and which biases are new there, in sentences.
    """

    technique: str
    host: str
    trained: int
    stored: int
    inference: int
    formula: str
    numbers: tuple[tuple[str, int], ...]
    host_parameters: int
    head: int
    notes: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The trained parameters as a share of the host's, without a head."""
        return self.trained / self.host_parameters


def count(technique: Technique | str, host: HostLike) -> Counts:
    """Counts the parameters of a technique on a host, from the host's sizes alone.

    Raises PeftrefError where the technique or the host is none, or the technique cannot stand on the host.

    >>> counts = count("lora", "bert-base")
    >>> counts.trained, counts.formula
    (294912, '4 * d_model * n_layers * r')
    """
    technique = load(technique) if isinstance(technique, str) else technique
    there = resolve(host)
    placed = placements(technique, there)
    found = copies(technique, placed)
    own = sum(copy.numel for copy in found if copy.leaf.trainable)
    tuned, tuned_terms = _tuned(technique, there)
    stored = sum(copy.numel for copy in found) + tuned
    terms = _terms(found, there) + tuned_terms
    settings = {k: v for k, v in technique.settings.items() if isinstance(v, int) and not isinstance(v, bool)}
    symbols = {name for term in terms for name in term.symbols()}
    sizes = {**_symbols(there), **settings}
    return Counts(
        technique=technique.name,
        host=there.name,
        trained=own + tuned,
        stored=stored,
        inference=_inference(technique, placed, found) + tuned,
        formula=_shown(terms),
        numbers=tuple((name, sizes[name]) for name in sorted(symbols) if name in sizes),
        host_parameters=there.parameters,
        head=there.head_parameters,
        notes=left_out(technique, there, placed),
    )


def _tuned(technique: Technique, host: Host) -> tuple[int, list[Size]]:
    """The host's own parameters that are trained, and the terms of their formula."""
    if technique.tune == "none":
        return 0, []
    if technique.tune == "all":
        return host.parameters, [Size.symbol("host")]
    total = 0
    terms: list[tuple[str, Size]] = []
    for site in host.select(technique.tune):
        for size in own_sizes(site):
            total += size.evaluate(site.sizes)
            terms.append((site.slot, size.substitute(_roles(site, host.stack(site.stack), _several(host)))))
    return total, _gathered(terms, host)


def own_sizes(site: Site) -> Iterator[Size]:
    """How many numbers each of a site's own parameters has."""
    for quantity in ARCHITECTURE.kind(site.kind).quantities:
        if quantity.per == "none" and quantity.name not in site.lacks:
            yield math.prod((Size.symbol(dim) for dim in quantity.shape), start=Size.of(1))


def _inference(technique: Technique, placed: Iterable[Placement], found: Iterable[Copy]) -> int:
    """Leaves that are still read, and parts without an input, where these are smaller than the leaves they are made from."""
    numel = {copy.name: copy.numel for copy in found}
    needed: set[str] = set()
    made = 0
    for placement in placed:
        leaves = placement.insertion.leaves
        sizes = {k: v for k, v in numbers(placement.site, technique.settings).items() if isinstance(v, int)}
        values, scope = placement.values.values(), placement.effect.scope
        parts = {untransposed(part) for value in values for part in constants(value, scope)}
        for part in parts:
            read = {copy_name(leaves[name], placement.site) for name in names(part) if name in leaves}
            size = 1
            for extent in scope.kind(part).evaluate(sizes):
                size *= extent
            if isinstance(part, Name) or size > sum(numel[name] for name in read):
                needed |= read
            elif read:
                made += size
    return min(made + sum(numel[name] for name in needed), sum(numel.values()))


def untransposed(part: Expr) -> Expr:
    """What has to be kept of a part that is read as it is, and transposed."""
    match part:
        case Call("transpose", (inner,)):
            return untransposed(inner)
    return part


def _terms(found: Iterable[Copy], host: Host) -> list[Size]:
    several = _several(host)
    known: dict[tuple[object, ...], Size] = {}
    terms = []
    for copy in found:
        if copy.leaf.trainable:
            site = copy.sites[0]
            key = (site.slot, site.stack, tuple(site.sizes.items()), copy.dims)
            if key not in known:
                roles = _roles(site, host.stack(site.stack), several)
                known[key] = math.prod((dim.substitute(roles) for dim in copy.dims), start=Size.of(1))
            terms.append((f"{site.slot} {copy.leaf.name}", known[key]))
    return _gathered(terms, host)


def _several(host: Host) -> bool:
    """Whether the sizes of a host's stacks differ, so that a symbol must say whose it is."""
    shown = [{k: v for k, v in stack.sizes.items() if k != "vocab"} for stack in host.stacks]
    return any(sizes != shown[0] for sizes in shown)


def _roles(site: Site, stack: Stack, several: bool) -> dict[str, Size]:
    """The widths of a site in the sizes of its stack, as its role fixes them; a plain number where they do not agree.

    Sizes that are equal on this host go by one name: a value head that is as wide as a query head, and all heads together
    that are as wide as the stack.
    """
    role = {"d_in": "d_in", "d_out": "d_out", **ARCHITECTURE.slot(site.slot).sizes}
    own = dict(stack.sizes)
    same: dict[str, Size] = {}
    if own.get("d_value") == own.get("d_head"):
        same["d_value"] = Size.symbol("d_head")
    if own.get("n_kv_heads") == own.get("n_heads") and own.get("n_heads", 0) * own.get("d_head", 0) == own.get(
        "d_model"
    ):
        same |= {"n_kv_heads": Size.symbol("n_heads"), "d_head": Size.symbol("d_model") / Size.symbol("n_heads")}
        same["d_value"] = same["d_head"] if "d_value" in same else Size.symbol("d_value")
    found: dict[str, Size] = {}
    for name, value in site.sizes.items():
        size = parse_size(role.get(name, name)).substitute(same)
        known = size.symbols() <= set(own)
        if name in ("d_in", "d_out") and value == own.get("d_model"):
            size, known = Size.symbol("d_model"), True
        if not known or size.evaluate(own) != value:
            size = Size.of(value)
        if several:
            size = size.substitute({symbol: Size.symbol(f"{stack.name}.{symbol}") for symbol in size.symbols()})
        found[name] = size
    return found


def _gathered(terms: list[tuple[str, Size]], host: Host) -> list[Size]:
    """Equal terms of one leaf once, times how often they stand: a multiple of the layers where it is one."""
    layers = {stack.n_layers for stack in host.stacks}
    gathered = []
    for (_, size), times in Counter(terms).items():
        own = {symbol.partition(".")[0] for symbol in size.symbols() if "." in symbol}
        stack = next((stack for stack in host.stacks if stack.name in own), host.stacks[0])
        symbol = f"{stack.name}.n_layers" if own else "n_layers"
        if (own or len(layers) == 1) and times % stack.n_layers == 0 and stack.n_layers > 1:
            size = size * Size.symbol(symbol) * Size.of(times // stack.n_layers)
        else:
            size = size * Size.of(times)
        gathered.append(size)
    return gathered


def _shown(terms: list[Size]) -> str:
    total = Size.of(0)
    for term in terms:
        total = total + term
    return total.show()


def _symbols(host: Host) -> dict[str, int]:
    found = {"host": host.parameters}
    for stack in host.stacks:
        for name, value in stack.sizes.items():
            found.setdefault(name, value)
            found[f"{stack.name}.{name}"] = value
    return found
