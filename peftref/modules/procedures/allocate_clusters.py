"""Allocation of clusters: those of least importance over all sites stay as they are from then on (AdaMSS, as peft has it).

A cluster's importance is the mean over its directions, plus that over its rows, of the smoothed |number * gradient| times its
smoothed uncertainty, both begun anew after each allocation. peft keeps one cluster fewer than its target says.
"""

from __future__ import annotations

import torch
from torch import Tensor

from peftref.modules.procedures.schedule import left_over, steps_of
from peftref.modules.procedures.work import Place, Work


@torch.no_grad()
def step(work: Work, number: int, total: int) -> None:
    """Observes the gradients of a step, lets clusters rest where it is time for it, and takes back what moved of those that rest.

    In the memory are `average` and `uncertainty` of every leaf since the last allocation; `kept` of every site and `held` of every
    leaf once there is one; nothing is left of them after the last step.
    """
    first = sum(len(place.leaves["directions"]) for place in work.places)
    last = int(work.told["target"] * len(work.places))
    warmup, final = (steps_of(work.told[name], total) for name in ("warmup", "final"))
    for place in work.places:
        _hold(work, place)
    if last < first and warmup <= number <= total - final:
        _observe(work)
        if number % int(work.told["interval"]) == 0:
            _allocate(work, left_over(first, last, number - warmup, total - final - warmup))
    if number >= total:
        work.memory.clear()


def _observe(work: Work) -> None:
    beta1, beta2 = float(work.told["beta1"]), float(work.told["beta2"])
    for name, leaf in work.tensors("directions", "rows").items():
        if leaf.grad is not None:
            seen = (leaf * leaf.grad).abs().float()
            average, uncertainty = (
                work.memory.get(f"{what}.{name}", torch.zeros_like(seen)).to(seen.device)
                for what in ("average", "uncertainty")
            )
            work.memory[f"uncertainty.{name}"] = beta2 * uncertainty + (1 - beta2) * (seen - average).abs()
            work.memory[f"average.{name}"] = beta1 * average + (1 - beta1) * seen


def _importance(work: Work, place: Place) -> Tensor:
    """The importance of every cluster of a site [k]."""
    directions, rows = (
        work.memory[f"average.{name}"] * work.memory[f"uncertainty.{name}"]
        for name in (place.names["directions"], place.names["rows"])
    )
    clusters = place.leaves["clusters"]
    sums = torch.zeros(len(directions), device=rows.device).index_add_(0, clusters, rows.mean(1))
    return directions.mean((1, 2)) + sums / clusters.bincount(minlength=len(directions)).clamp_min(1)


def _kept(work: Work, place: Place) -> Tensor:
    """Which clusters of a site learn [k]."""
    directions = place.leaves["directions"]
    every = torch.ones(len(directions), dtype=torch.bool, device=directions.device)
    return work.memory.get(f"kept.{place.names['directions']}", every).to(directions.device)


def _allocate(work: Work, budget: int) -> None:
    """Lets all but some of the clusters that still learn rest."""
    if any(f"average.{name}" not in work.memory for name in work.tensors("directions", "rows")):
        return
    scores = [torch.where(_kept(work, place), _importance(work, place), -1.0) for place in work.places]
    flat = torch.cat(scores)
    if budget < int((flat >= 0).sum()):
        least = flat.topk(budget).values[-1] if budget else torch.inf
        for place, score in zip(work.places, scores, strict=True):
            work.memory[f"kept.{place.names['directions']}"] = score >= least
            for leaf in ("directions", "rows"):
                work.memory[f"held.{place.names[leaf]}"] = place.leaves[leaf].detach().clone()
    for name in work.tensors("directions", "rows"):
        del work.memory[f"average.{name}"], work.memory[f"uncertainty.{name}"]


def _hold(work: Work, place: Place) -> None:
    """Gives the clusters of a site that rest the numbers that they had."""
    kept = _kept(work, place)
    if not kept.all():
        for leaf, rest in (("directions", ~kept), ("rows", ~kept[place.leaves["clusters"]])):
            own = place.leaves[leaf]
            own[rest] = work.memory[f"held.{place.names[leaf]}"].to(own)[rest]
