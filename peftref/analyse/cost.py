"""What a technique costs on a host while it trains: operations, numbers kept for backward, optimizer state, extra length, and reach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftref.analyse.alone import alone
from peftref.analyse.count import count
from peftref.analyse.group import groups, meter
from peftref.design.load import load
from peftref.design.placement import Placement, numbers, placements
from peftref.design.technique import Technique
from peftref.host.architecture import ARCHITECTURE
from peftref.host.host import Host
from peftref.host.locate.resolve import resolve
from peftref.host.site import Site
from peftref.language.expr import Call, Expr, Name, names, walk
from peftref.language.ops import TABLE
from peftref.language.rewrite.computed import computed
from peftref.language.rewrite.cost import Load
from peftref.language.rewrite.optimise import optimise
from peftref.language.rewrite.share import read_by

if TYPE_CHECKING:
    from peftref.host.locate.resolve import HostLike

BYTES = 4
"""Of a number in single precision."""
X = Name("x")
MOMENTS = 2
"""Numbers that AdamW keeps for every trained parameter."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs of one training step, for a batch of so many samples of so many tokens; FLOPs count matrix products, two per multiply-add.

    forward, backward: FLOPs per token that the technique adds; backward as if what it reads needed a gradient as well.
    host_forward: FLOPs per token of the frozen host alone, without a head. host_backward: of the gradients that pass through it.
    host_bottom: of gradients that pass through it down to its bottom.
    saved: numbers that the technique's own equations keep for backward, an input that several sites read once; what the host keeps
    more because of it (a longer sequence, the input of a norm) is left out, and what torch's fused kernels save instead.
    state: bytes of AdamW's two moments in single precision. extra_tokens: by how much the sequence of a stack grows, at most.
    extra_keys: by how many keys and values attention sees more, at most. reaches: the lowest layer of each stack to which
    back-propagation goes; 0 is the bottom. stops_early: it stops above the bottom of the first stack.
    """

    technique: str
    host: str
    batch: int
    length: int
    forward: float
    backward: float
    host_forward: float
    host_backward: float
    host_bottom: float
    saved: int
    state: int
    extra_tokens: int
    extra_keys: int
    reaches: tuple[tuple[str, int], ...]
    stops_early: bool

    @property
    def saved_bytes(self) -> int:
        """What is kept for backward in single precision."""
        return BYTES * self.saved


def cost(technique: Technique | str, host: HostLike, *, batch: int = 8, length: int = 64) -> Costs:
    """The costs of a technique on a host, from the host's sizes alone; every stack reads sequences of the same length.

    Raises PeftrefError where the technique or the host is none, or the technique cannot stand on the host.

    >>> found = cost("lora", "bert-base")
    >>> int(found.forward), int(found.host_forward), found.stops_early
    (589824, 172228608, False)
    """
    technique = load(technique) if isinstance(technique, str) else technique
    there = resolve(host)
    placed = placements(technique, there)
    tokens, keys = _longer(technique, placed, "sequence"), _longer(technique, placed, "core")
    lengths = _Lengths(
        there, length, {site.stack: tokens[site.name] for site in there.sites if site.name in tokens}, keys
    )
    forward, backward = 0, 0
    kept: dict[object, int] = {}
    for group in groups(technique, placed):
        longer = lengths.own(group[0].site.stack)
        found = _parts(technique, group[0], Load(batch * longer, longer))
        forward, backward = forward + len(group) * found.forward, backward + len(group) * found.backward
        for placement in group:
            kept |= {_holder(placement.site, value): size for value, size in found.kept.items()}
    tuned = () if technique.tune in ("none", "all") else there.select(technique.tune)
    tuned = tuple(site for site in there.sites if _counted(site)) if technique.tune == "all" else tuned
    reaches = _reaches(there, [*(each.site for each in placed if _trains(each)), *tuned])
    lowest = dict(reaches)
    bare = _Lengths(there, length, {}, {})
    multiplied = [site for site in tuned if site.kind == "linear" and not ARCHITECTURE.slot(site.slot).lookup]
    weights = sum(2 * _weight(site) for site in multiplied)
    kept |= {_holder(site, X): batch * length * site.sizes["d_in"] for site in multiplied}
    return Costs(
        technique=technique.name,
        host=there.name,
        batch=batch,
        length=length,
        forward=forward / (batch * length) + (lengths.total() - bare.total()) / length,
        backward=backward / (batch * length) + weights + (lengths.through(lowest) - bare.through(lowest)) / length,
        host_forward=bare.total() / length,
        host_backward=bare.through(lowest) / length,
        host_bottom=bare.through({stack.name: 0 for stack in there.stacks}) / length,
        saved=sum(kept.values()),
        state=MOMENTS * BYTES * count(technique, there).trained,
        extra_tokens=max(tokens.values(), default=0),
        extra_keys=max(keys.values(), default=0),
        reaches=reaches,
        stops_early=lowest.get(there.stacks[0].name, 1) > 0,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """Of one placement: FLOPs forward and backward, and the values kept for backward with how many numbers each has."""

    forward: int
    backward: int
    kept: Mapping[Expr, int]


def _parts(technique: Technique, placement: Placement, load: Load) -> _Found:
    """The cost of all that a placement replaces, in the forms that are chosen; less the host's own product where nobody reads it."""
    site, measure = placement.site, meter(technique, placement, load)
    forward, backward = 0, 0
    kept: dict[Expr, int] = {}
    for quantity, value in computed(placement.effect, site.lacks, numbers(site, technique.settings)).items():
        chosen, _ = optimise(value, measure)
        if site.whole:
            effect, sizes = placement.effect, numbers(site, technique.settings)
            lonely = alone(placement.insertion, effect, site.lacks, sizes, measure)
            chosen = lonely.value if lonely else chosen
        found = measure.cost(chosen)
        made = _replaces(site, chosen, quantity) and not ARCHITECTURE.slot(site.slot).lookup
        own = 2 * _weight(site) * load.tokens if made else 0
        forward, backward = forward + found.flops - own, backward + found.backward - own
        kept |= {each: measure.elements(each) for each in measure.kept(chosen)}
    return _Found(forward, backward, kept)


def _holder(site: Site, value: Expr) -> object:
    """What holds a kept value: the input that several sites read is kept once."""
    return (read_by(site), value) if value == X and site.reads else (site.name, value)


def _replaces(site: Site, value: Expr, quantity: str) -> bool:
    """Whether the host's own product is not made: a linear map of its own whose output is replaced by what does not read it."""
    return site.kind == "linear" and quantity == "h" and site.whole and "h" not in names(value)


def _trains(placement: Placement) -> bool:
    """Whether a gradient comes to a placement through the host; what only carries on gets it from where that is read."""
    effect = placement.effect
    return bool(effect.own) and (bool(effect.carries) or any(leaf.trainable for leaf in placement.leaves))


def _longer(technique: Technique, placed: Iterable[Placement], kind: str) -> Mapping[str, int]:
    """By how many rows concatenation lengthens the sequence, or the keys of attention, at each site."""
    found: Counter[str] = Counter()
    for placement in placed:
        if placement.effect.kind == kind:
            measure = meter(technique, placement, Load())
            for quantity in {"h", "k"} & set(placement.values):
                for node in walk(placement.values[quantity]):
                    if isinstance(node, Call) and TABLE[node.op].lengthens and Name(quantity) in node.args:
                        rows = sum(measure.shape(arg)[0] for arg in node.args if arg != Name(quantity))
                        found[placement.site.name] += rows
    return found


def _counted(site: Site) -> bool:
    return site.kind == "linear" and ARCHITECTURE.slot(site.slot).component not in ("embedding", "head")


def _weight(site: Site) -> int:
    """The numbers in the weight of a linear site."""
    return site.sizes["d_in"] * site.sizes["d_out"]


@dataclass(frozen=True, slots=True)
class _Lengths:
    """How long the sequences of a host are: of each stack, of what each reads by cross attention, and rows added to keys."""

    host: Host
    length: int
    tokens: Mapping[str, int]
    keys: Mapping[str, int]

    def own(self, stack: str) -> int:
        """The sequence of a stack."""
        return self.length + self.tokens.get(stack, 0)

    def read(self, stack: str) -> int:
        """The sequence that a stack reads by cross attention: that of the stack that feeds it."""
        feeder = next((each.name for each in self.host.stacks if each.feeds == stack), "")
        return self.own(feeder)

    def flops(self, site: Site) -> int:
        """Forward FLOPs of a linear or core site for one sample; 0 for every other."""
        crossed = site.slot.startswith("cross_attention.")
        if _counted(site):
            away = crossed and site.slot.endswith((".key", ".value"))
            return 2 * _weight(site) * (self.read(site.stack) if away else self.own(site.stack))
        if site.kind == "core":
            seen = (self.read(site.stack) if crossed else self.own(site.stack)) + self.keys.get(site.name, 0)
            return (
                2 * self.own(site.stack) * seen * site.sizes["n_heads"] * (site.sizes["d_head"] + site.sizes["d_value"])
            )
        return 0

    def total(self) -> int:
        """Forward FLOPs of the whole host for one sample."""
        return sum(self.flops(site) for site in self.host.sites)

    def through(self, reaches: Mapping[str, int]) -> int:
        """FLOPs of the gradients of values, not of weights, down to the lowest layer that is reached in each stack."""
        total = 0
        for site in self.host.sites:
            lowest = reaches.get(site.stack)
            if lowest is None or site.layer is None or site.layer < lowest:
                continue
            feeder = next((each.name for each in self.host.stacks if each.feeds == site.stack), None)
            apart = site.slot.startswith("cross_attention.") and feeder not in reaches
            if apart and site.slot.endswith((".key", ".value")):
                continue
            total += self.flops(site) * (2 if site.kind == "core" and not apart else 1)
        return total


def _reaches(host: Host, sites: Iterable[Site]) -> tuple[tuple[str, int], ...]:
    """The lowest layer of each stack below which nothing needs a gradient; stacks that need none are left out."""
    found: dict[str, int] = {}
    for site in sites:
        stack = host.stack(site.stack)
        above = ARCHITECTURE.slot(site.slot).component in ("final", "head")
        lowest = (site.layer or 0) if site.within else (stack.n_layers if above else 0)
        found[stack.name] = min(lowest, found.get(stack.name, lowest))
    for stack in host.stacks:
        if stack.name in found and stack.feeds:
            crossing = [
                each.layer for each in host.sites if each.stack == stack.feeds and each.slot == "cross_attention.key"
            ]
            found[stack.feeds] = min(
                found.get(stack.feeds, host.stack(stack.feeds).n_layers), *(each or 0 for each in crossing)
            )
    return tuple((stack.name, found[stack.name]) for stack in host.stacks if stack.name in found)
