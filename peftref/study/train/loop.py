"""The training loop: AdamW, linear warm-up and decay, clipped gradients; same seed, machine and threads, same bits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import nn

from peftref.study.train.data import Encoded, batches, by_length
from peftref.study.train.metrics import Scores, accuracy, macro_f1


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a module is trained. steps, warmup and eval_every are in optimizer steps (warmup as a share of them)."""

    steps: int
    lr: float
    batch_size: int = 32
    warmup: float = 0.06
    weight_decay: float = 0.0
    clip: float = 1.0
    eval_every: int = 50

    def rate(self, step: int) -> float:
        """The learning rate of a step (from 0): linear up over the warm-up, then linear down to 0 at the end.

        >>> recipe = Recipe(steps=10, lr=1.0, warmup=0.2)
        >>> [round(recipe.rate(step), 2) for step in (0, 1, 2, 9)]
        [0.5, 1.0, 1.0, 0.12]
        """
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return self.lr * (step + 1) / rising
        return self.lr * (self.steps - step) / max(1, self.steps - rising)


class Procedures(Protocol):
    """What is attached to the model, where it adds to the loss, or does more after a step of the optimizer."""

    def penalty(self) -> torch.Tensor | float:
        """What is added to the loss."""

    def step(self, done: int, total: int) -> None:
        """What follows a step, with the gradients still there. done: from 1."""

    def note(self, **facts: bool | int | float | str) -> None:
        """Notes how it is trained."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a learning curve: optimizer steps done, mean training loss since the last point, scores on dev."""

    step: int
    loss: float
    dev: Scores


@dataclass(frozen=True, slots=True)
class Training:
    """What training gave: how it ended, steps done, the learning curve, and the seconds spent in steps."""

    status: Literal["finished", "diverged"]
    steps: int
    curve: tuple[Point, ...]
    seconds: float


def train(
    model: Any,
    parameters: Iterable[nn.Parameter],
    data: Encoded,
    dev: Encoded,
    recipe: Recipe,
    seed: int,
    tick: Callable[[int], None] = lambda step: None,
    factor: Callable[[nn.Parameter], float] = lambda parameter: 1.0,
    procedures: Procedures | None = None,
) -> Training:
    """Train some parameters of a classifier, in place.

    data order and dropout come from the seed; the caller's random state is kept. A loss, gradient or dev logit that is
    not finite ends the training as `diverged`. tick is called after every step with the number of steps done. factor: on the
    learning rate of a parameter. procedures: what is attached, where it adds to the loss or does more after a step.
    """
    chosen = list(parameters)
    if procedures is not None:
        procedures.note(steps=recipe.steps, lr=recipe.lr, batch_size=recipe.batch_size, seed=seed)
    device = next(model.parameters()).device
    devices = [device] if device.type == "cuda" else []
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in chosen:
        groups.setdefault(factor(parameter), []).append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": group, "factor": times} for times, group in groups.items()],
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
    )
    curve: list[Point] = []
    losses: list[float] = []
    seconds = 0.0
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        model.train()
        for step, rows in enumerate(batches(data, recipe.batch_size, recipe.steps, seed)):
            started = time.perf_counter()
            batch, rate = data.batch(rows, device), recipe.rate(step)
            loss, norm = _backward(model, chosen, batch, recipe.clip, procedures)
            if math.isfinite(loss) and math.isfinite(norm):
                for group in optimizer.param_groups:
                    group["lr"] = rate * group["factor"]
                optimizer.step()
                if procedures is not None:
                    procedures.step(step + 1, recipe.steps)
            optimizer.zero_grad(set_to_none=True)
            seconds += time.perf_counter() - started
            losses.append(loss)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                return Training("diverged", step + 1, tuple(curve), seconds)
            last = step + 1 == recipe.steps
            if last or (step + 1) % recipe.eval_every == 0:
                scores = evaluate(model, dev)
                if not math.isfinite(scores.loss):
                    return Training("diverged", step + 1, tuple(curve), seconds)
                curve.append(Point(step + 1, sum(losses) / len(losses), scores))
                losses = []
                model.train()
            tick(step + 1)
    return Training("finished", recipe.steps, tuple(curve), seconds)


def _backward(
    model: Any,
    parameters: list[nn.Parameter],
    batch: dict[str, torch.Tensor],
    clip: float,
    procedures: Procedures | None,
) -> tuple[float, float]:
    """The loss of a batch, without what procedures add to it, and the norm of the gradients before they are clipped."""
    loss = model(**batch).loss
    (loss if procedures is None else loss + procedures.penalty()).backward()
    return float(loss.detach()), float(nn.utils.clip_grad_norm_(parameters, clip))


@torch.no_grad()
def evaluate(model: Any, data: Encoded, batch_size: int = 128) -> Scores:
    """The scores of a classifier on a split; puts the model into evaluation mode and leaves it there."""
    model.eval()
    device = next(model.parameters()).device
    guessed = torch.empty(len(data), dtype=torch.long)
    total = 0.0
    for rows in by_length(data, batch_size):
        batch = data.batch(rows, device)
        truth = batch.pop("labels")
        logits = model(**batch).logits.float()
        total += float(nn.functional.cross_entropy(logits, truth, reduction="sum"))
        guessed[rows] = logits.argmax(-1).cpu()
    truths, guesses = data.labels.tolist(), guessed.tolist()
    return Scores(accuracy(truths, guesses), macro_f1(truths, guesses), total / len(data), len(data))
