"""Wall-clock times of training steps and of inference, of several contenders in turn on the same batches."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

Batch = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Contender:
    """What is timed: a context that puts it in place and gives the parameters to train, and the model to call.

    more: what this one is told in every call, beside the batch.
    """

    name: str
    model: Any
    place: Callable[[], AbstractContextManager[list[nn.Parameter]]]
    more: Batch = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds per call of one contender: the median, the quartiles, how many were timed, and the median ratio by contender."""

    median: float
    low: float
    high: float
    rounds: int
    ratio: Mapping[str, float]


def contender(
    name: str, model: Any, parameters: Sequence[nn.Parameter], more: Batch = MappingProxyType({})
) -> Contender:
    """A contender that needs no putting in place."""
    chosen = list(parameters)
    return Contender(name, model, lambda: nullcontext(chosen), more)


def step_times(
    contenders: Sequence[Contender],
    batches: Sequence[Batch],
    *,
    warm_up: int = 3,
    rounds: int = 20,
    seconds: float = 3.0,
) -> dict[str, Times]:
    """Times of forward + backward + AdamW step, contenders taking turns within a round, each round on one batch.

    The learning rate is 0, so that nothing is trained while all work is done. At least five rounds, and no more than
    `seconds` of them beyond; the warm-up is not counted. The model is put into training mode.
    """
    optimizers: dict[str, torch.optim.Optimizer] = {}
    for one in contenders:
        with one.place() as parameters:
            optimizers[one.name] = torch.optim.AdamW(parameters, lr=0.0, weight_decay=0.0)
        one.model.train()

    def call(one: Contender, batch: Batch) -> float:
        optimizer = optimizers[one.name]
        with one.place():
            return _timed(lambda: _step(one.model, optimizer, {**batch, **one.more}), batch)

    return _rounds(contenders, batches, call, warm_up, rounds, seconds)


@torch.no_grad()
def inference_times(
    contenders: Sequence[Contender],
    batches: Sequence[Batch],
    *,
    warm_up: int = 3,
    rounds: int = 20,
    seconds: float = 2.0,
) -> dict[str, Times]:
    """Times of one forward pass in evaluation mode without labels, taken as `step_times` takes its own."""
    for one in contenders:
        one.model.eval()
    plain = [{name: tensor for name, tensor in batch.items() if name != "labels"} for batch in batches]

    def call(one: Contender, batch: Batch) -> float:
        return _timed(lambda: one.model(**batch, **one.more), batch)

    return _rounds(contenders, plain, call, warm_up, rounds, seconds)


def _step(model: Any, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    optimizer.zero_grad(set_to_none=True)
    model(**batch).loss.backward()
    optimizer.step()


def _timed(work: Callable[[], object], batch: Batch) -> float:
    device = next(iter(batch.values())).device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _rounds(
    contenders: Sequence[Contender],
    batches: Sequence[Batch],
    call: Callable[[Contender, Batch], float],
    warm_up: int,
    rounds: int,
    seconds: float,
) -> dict[str, Times]:
    taken: dict[str, list[float]] = {one.name: [] for one in contenders}
    started = time.perf_counter()
    for number in range(-warm_up, rounds):
        if number == 0:
            started = time.perf_counter()
        if number >= 5 and time.perf_counter() - started > seconds:
            break
        turn = number % len(contenders)
        for one in [*contenders[turn:], *contenders[:turn]]:
            spent = call(one, batches[number % len(batches)])
            if number >= 0:
                taken[one.name].append(spent)
    return {name: _summary(times, taken) for name, times in taken.items()}


def _summary(times: list[float], taken: Mapping[str, list[float]]) -> Times:
    low, median, high = statistics.quantiles(times * 2 if len(times) == 1 else times, n=4, method="inclusive")
    ratio = {
        name: statistics.median(mine / theirs for mine, theirs in zip(times, other, strict=True))
        for name, other in taken.items()
    }
    return Times(median, low, high, len(times), ratio)
