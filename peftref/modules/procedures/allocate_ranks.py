"""Rank allocation: components of least importance over all sites are set to zero, along a cubic budget.

Importance is the smoothed sensitivity |number * gradient| times its smoothed uncertainty (AdaLoRA, arXiv 2303.10512, equations
8 to 12); a component's is that of its value, plus the means over its row and its column.
"""

from __future__ import annotations

import torch
from torch import Tensor

from peftref.modules.procedures.schedule import left_over, steps_of
from peftref.modules.procedures.work import Work


@torch.no_grad()
def step(work: Work, number: int, total: int) -> None:
    """Observes the gradients of a step, and takes components out where it is time for it. number: from 1.

    In the memory are `average` and `uncertainty` of every leaf until the final steps, and `kept` of every site from then on.
    """
    values = work.tensors("values")
    first, last = sum(value.numel() for value in values.values()), int(work.told["target"] * len(values))
    warmup, final = (steps_of(work.told[name], total) for name in ("warmup", "final"))
    if number < total - final:
        _observe(work)
        if number > warmup and number % int(work.told["interval"]) == 0:
            _mask(work, left_over(first, last, number - warmup, total - final - warmup))
    elif number == total - final:
        kept = _mask(work, last)
        work.memory.clear()
        work.memory.update({f"kept.{name}": value for name, value in kept.items()})
    for name, value in values.items():
        kept_here = work.memory.get(f"kept.{name}")
        if kept_here is not None:
            value.masked_fill_(~kept_here.to(value.device), 0.0)


def penalty(work: Work) -> Tensor | float:
    """How far rows and columns are from orthonormal ones: the mean Frobenius norm over their leaves, times its weight."""
    weight = float(work.told["orthogonal"])
    if weight == 0:
        return 0.0
    grams = [leaf @ leaf.mT for leaf in work.tensors("rows").values()]
    grams += [leaf.mT @ leaf for leaf in work.tensors("columns").values()]
    norms = [
        torch.linalg.matrix_norm(gram - torch.eye(*gram.shape, dtype=gram.dtype, device=gram.device)) for gram in grams
    ]
    return weight * torch.stack(norms).mean()


def _observe(work: Work) -> None:
    beta1, beta2 = float(work.told["beta1"]), float(work.told["beta2"])
    for name, leaf in work.tensors("values", "rows", "columns").items():
        if leaf.grad is None:
            continue
        seen = (leaf * leaf.grad).abs().float()
        average, uncertainty = (
            work.memory.get(f"{what}.{name}", torch.zeros_like(seen)).to(seen.device)
            for what in ("average", "uncertainty")
        )
        average = beta1 * average + (1 - beta1) * seen
        work.memory[f"average.{name}"] = average
        work.memory[f"uncertainty.{name}"] = beta2 * uncertainty + (1 - beta2) * (seen - average).abs()


def importance(work: Work) -> dict[str, Tensor]:
    """The importance of every component [r] of every site, by the name of its values; nothing where no step was observed."""

    def score(name: str) -> Tensor:
        return work.memory[f"average.{name}"] * work.memory[f"uncertainty.{name}"]

    if any(f"average.{name}" not in work.memory for name in work.tensors("values", "rows", "columns")):
        return {}
    return {
        place.names["values"]: score(place.names["values"]).flatten()
        + (score(place.names["rows"]).mean(1) + score(place.names["columns"]).mean(0))
        for place in work.places
    }


def _mask(work: Work, budget: int) -> dict[str, Tensor]:
    """Sets all but some components to zero, those of least importance; gives which were kept, by the name of the values."""
    scores = importance(work)
    taken = sum(score.numel() for score in scores.values()) - budget
    if not scores or taken < 1:
        return {}
    threshold = torch.cat(list(scores.values())).kthvalue(taken).values
    kept = {name: score > threshold for name, score in scores.items()}
    for name, value in work.tensors("values").items():
        value.masked_fill_(~kept[name].view_as(value), 0.0)
    return kept
