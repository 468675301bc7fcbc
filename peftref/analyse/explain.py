"""Why a technique is computed the way it is: the form as written and the one chosen, the cost of each, and the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftref.analyse.alone import LAW, alone, spared
from peftref.analyse.cost import Costs, cost
from peftref.analyse.group import groups, meter
from peftref.analyse.merge import merge_rule
from peftref.design.load import load
from peftref.design.placement import Placement, numbers, placements
from peftref.design.technique import Technique
from peftref.host.resolve import resolve
from peftref.lang.expr import Expr, names
from peftref.lang.show import show
from peftref.rewrite.computed import computed
from peftref.rewrite.constant import foldable
from peftref.rewrite.cost import Cost, Load
from peftref.rewrite.optimise import Decision, optimise
from peftref.rewrite.share import products, together

if TYPE_CHECKING:
    from peftref.host.resolve import HostLike


@dataclass(frozen=True, slots=True)
class Step:
    """One decision: a part as it was and as it became, the laws behind it, and the score of each."""

    before: str
    after: str
    laws: tuple[str, ...]
    score_before: int
    score_after: int


@dataclass(frozen=True, slots=True)
class Part:
    """One replaced quantity at one slot of one size: `sites` says at how many places of the host it stands.

    written: the equation as the technique has it; naive: the value computed as it stands there, chosen: the form with the lowest
    score (operations both ways, with the numbers written weighed as operations). together: leaves whose products with x are made
    in one with those of other sites that read the same x. kept: parts of leaves alone, made again only when a leaf has changed.
    """

    slot: str
    quantity: str
    sites: int
    written: str
    naive: str
    chosen: str
    naive_cost: Cost
    chosen_cost: Cost
    steps: tuple[Step, ...]
    together: tuple[str, ...]
    kept: tuple[str, ...]
    merge: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The parts of a technique on a host, and what they cost in all, for a batch of so many samples of so many tokens."""

    technique: str
    host: str
    batch: int
    length: int
    parts: tuple[Part, ...]
    costs: Costs


def explain(technique: Technique | str, host: HostLike, *, batch: int = 8, length: int = 64) -> Explanation:
    """How each part of a technique is computed on a host, and why. Raises PeftrefError where it cannot stand there.

    >>> part = explain("lora", "bert-base").parts[0]
    >>> part.chosen, part.naive_cost.flops // part.chosen_cost.flops
    ('h + B @ (alpha / r * (A @ x))', 48)
    """
    technique = load(technique) if isinstance(technique, str) else technique
    there = resolve(host)
    tokens = Load(batch * length, length)
    chosen = [_Chosen(technique, group, tokens) for group in groups(technique, placements(technique, there))]
    sites = [(each, placement.site) for each in chosen for placement in each.group]
    shared = together([site for _, site in sites], [each.products() for each, _ in sites])
    shares = {id(each) for (each, _), one in zip(sites, shared, strict=True) if one}
    parts = [part for each in chosen for part in each.parts(shared=id(each) in shares)]
    costs = cost(technique, there, batch=batch, length=length)
    return Explanation(technique.name, there.name, batch, length, tuple(parts), costs)


class _Chosen:
    """The values that a group of placements computes, each as it stands there and as it is computed."""

    def __init__(self, technique: Technique, group: list[Placement], batch: Load) -> None:
        self.group, first = group, group[0]
        self.placement = first
        self.measure = meter(technique, first, batch)
        values = computed(first.effect, first.site.lacks, numbers(first.site, technique.settings))
        self.values = {name: (value, *optimise(value, self.measure)) for name, value in values.items()}
        sizes = numbers(first.site, technique.settings)
        whole = (
            alone(first.insertion, first.effect, first.site.lacks, sizes, self.measure) if first.site.whole else None
        )
        if whole is not None:
            value, better, _ = self.values["h"]
            law = Decision(better, whole, self.measure.cost(better), self._cost(whole), (LAW,))
            self.values["h"] = (value, whole, (law,))

    def _cost(self, value: Expr) -> Cost:
        """The cost of a chosen value; where the host's own product is not made, less that one's."""
        found = self.measure.cost(value)
        spares = self.placement.effect.kind == "linear" and self.placement.site.whole and "h" not in names(value)
        return found - spared(self.measure) if spares else found

    def products(self) -> tuple[str, ...]:
        """The leaves that are multiplied with x as it comes in."""
        return products((better for _, better, _ in self.values.values()), self.placement.insertion.leaves)

    def parts(self, *, shared: bool) -> list[Part]:
        """One part for each value."""
        effect, insertion, measure = self.placement.effect, self.placement.insertion, self.measure
        rule = merge_rule(insertion, effect)
        return [
            Part(
                self.placement.site.slot,
                quantity,
                len(self.group),
                show(insertion.equation),
                show(value),
                show(better),
                measure.cost(value),
                self._cost(better),
                tuple(_step(each) for each in decisions),
                products([better], insertion.leaves) if shared else (),
                tuple(show(part) for part in foldable(better, effect.scope)),
                rule.show(),
            )
            for quantity, (value, better, decisions) in self.values.items()
        ]


def _step(made: Decision) -> Step:
    return Step(show(made.before), show(made.after), made.laws, made.cost_before.score, made.cost_after.score)
