"""Why a technique is computed the way it is: the form as written and the one chosen, the cost of each, and the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftref.analyse.form import replaced
from peftref.analyse.group import groups, meter
from peftref.analyse.merge import merge_rule
from peftref.design.load import load
from peftref.design.placement import Placement, placements
from peftref.design.technique import Technique
from peftref.host.resolve import resolve
from peftref.lang.show import show
from peftref.rewrite.cost import Cost, Load
from peftref.rewrite.optimise import optimise

if TYPE_CHECKING:
    from peftref.host.resolve import HostLike

BYTES = 4
"""Of a number in single precision."""


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

    score: operations both ways, with the numbers written weighed as operations; the form with the lower one is taken.
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
    merge: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The parts of a technique on a host, for a batch of so many samples of so many tokens."""

    technique: str
    host: str
    batch: int
    length: int
    parts: tuple[Part, ...]

    @property
    def tokens(self) -> int:
        """Tokens in the batch."""
        return self.batch * self.length


def explain(technique: Technique | str, host: HostLike, *, batch: int = 8, length: int = 64) -> Explanation:
    """How each part of a technique is computed on a host, and why. Raises PeftrefError where it cannot stand there.

    >>> part = explain("lora", "bert-base").parts[0]
    >>> part.chosen, part.naive_cost.flops // part.chosen_cost.flops
    ('h + B @ (alpha / r * (A @ dropout(x)))', 48)
    """
    technique = load(technique) if isinstance(technique, str) else technique
    there = resolve(host)
    placed = placements(technique, there)
    parts = [
        part for group in groups(technique, placed) for part in _parts(technique, group, Load(batch * length, length))
    ]
    return Explanation(technique.name, there.name, batch, length, tuple(parts))


def _parts(technique: Technique, group: list[Placement], load: Load) -> list[Part]:
    placement = group[0]
    effect, site = placement.effect, placement.site
    measure = meter(technique, placement, load)
    rule = merge_rule(placement.insertion, effect)
    found = []
    for quantity, value in replaced(effect).items():
        if quantity in site.lacks and effect.kind != "linear":
            continue
        chosen, decisions = optimise(value, measure)
        steps = tuple(
            Step(show(each.before), show(each.after), each.laws, each.cost_before.score, each.cost_after.score)
            for each in decisions
        )
        found.append(
            Part(
                site.slot,
                quantity,
                len(group),
                show(placement.insertion.equation),
                show(value),
                show(chosen),
                measure.cost(value),
                measure.cost(chosen),
                steps,
                rule.show(),
            )
        )
    return found
