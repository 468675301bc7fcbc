"""Why a technique is computed the way it is: the form as written and the one chosen, the cost of each, and the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftref.analyse.alone import alone, spared
from peftref.analyse.beside import Share, shares
from peftref.analyse.cost import Costs, cost
from peftref.analyse.group import groups, meter
from peftref.analyse.merge import merge_rule
from peftref.design.load import load
from peftref.design.placement import Placement, numbers, placements
from peftref.design.technique import Technique
from peftref.host.locate.resolve import resolve
from peftref.language.expr import Call, Expr, walk
from peftref.language.rewrite.computed import computed
from peftref.language.rewrite.constant import foldable
from peftref.language.rewrite.cost import Cost, Load
from peftref.language.rewrite.optimise import optimise
from peftref.language.rewrite.rule import Decision
from peftref.language.rewrite.share import products, together
from peftref.language.show import show

if TYPE_CHECKING:
    from peftref.host.locate.resolve import HostLike


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
    """The parts of a technique on a host, and what they cost in all, for a batch of so many samples of so many tokens.

    shares: what a step costs more than one of the frozen host, counted, as shares of that one; largest first.
    """

    technique: str
    host: str
    batch: int
    length: int
    parts: tuple[Part, ...]
    costs: Costs
    shares: tuple[Share, ...]

    @property
    def step(self) -> float:
        """A step beside one of the frozen host, counted."""
        return 1 + sum(each.share for each in self.shares)


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
    sharing = {id(each) for (each, _), one in zip(sites, shared, strict=True) if one}
    parts = [part for each in chosen for part in each.parts(shared=id(each) in sharing)]
    costs = cost(technique, there, batch=batch, length=length)
    weighed = [
        (f"{each.placement.site.slot} at {len(each.group)} sites", len(each.group), *found)
        for each in chosen
        for found in each.costs()
    ]
    return Explanation(technique.name, there.name, batch, length, tuple(parts), costs, shares(there, costs, weighed))


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
            law = Decision(better, whole.value, self.measure.cost(better), self._cost(whole.value), (whole.law,))
            self.values["h"] = (value, whole.value, (law,))

    def _cost(self, value: Expr) -> Cost:
        """The cost of a chosen value; where the host's own product is not made, less that one's."""
        whole = self.placement.effect.kind == "linear" and self.placement.site.whole
        return self.measure.cost(value) - (spared(self.measure, value) if whole else Cost())

    def products(self) -> tuple[str, ...]:
        """The leaves that are multiplied with x as it comes in."""
        return products(
            (better for _, better, _ in self.values.values()), self.placement.insertion.leaves, self.measure
        )

    def costs(self) -> list[tuple[Cost, bool]]:
        """What each value costs, and whether a matrix as large as the weight, that is multiplied with x, has a gradient."""
        return [(self._cost(better), self._learns(better)) for _, better, _ in self.values.values()]

    def _learns(self, value: Expr) -> bool:
        sizes = self.placement.site.sizes
        return any(
            isinstance(node, Call)
            and node.op == "matmul"
            and self.measure.shape(node.args[0]) == (sizes.get("d_out"), sizes.get("d_in"))
            and self.measure.learns(node.args[0])
            for node in walk(value)
        )

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
                products([better], insertion.leaves, measure) if shared else (),
                tuple(show(part) for part in foldable(better, effect.scope)),
                rule.show(),
            )
            for quantity, (value, better, decisions) in self.values.items()
        ]


def _step(made: Decision) -> Step:
    return Step(show(made.before), show(made.after), made.laws, made.cost_before.score, made.cost_after.score)
