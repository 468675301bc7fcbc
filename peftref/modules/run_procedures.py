"""The procedures of an attached technique, run at their moments on its leaves and its host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import NoReturn

from torch import Tensor, nn

from peftref.core.problem import fail
from peftref.design.placement import copy_name
from peftref.design.procedures import PROCEDURES, arguments, leaves
from peftref.design.technique import Procedure
from peftref.modules.compile.module import Inserted
from peftref.modules.procedures.table import FUNCTIONS
from peftref.modules.procedures.work import Batch, Place, Work
from peftref.modules.running.bare import module_at
from peftref.modules.running.own import Own


def run_begin(model: nn.Module, inserted: Inserted, batches: Iterable[Batch] | None, seed: int) -> None:
    """Runs what gives leaves their first values. Without batches, what needs them is left out, and waits.

    Raises PeftrefError `no-batches` for batches without tokens, and `init-size`.
    """
    held = None if batches is None else list(batches)
    waiting = []
    for number, procedure in enumerate(inserted.technique.procedures):
        begin, data = FUNCTIONS[procedure.name].begin, PROCEDURES[procedure.name].data
        if begin is None:
            continue
        if data and held is None:
            waiting.append(procedure.name)
        else:
            begin(_work(model, inserted, number, procedure, seed, held or ()))
    inserted.waiting = tuple(waiting)
    inserted.train(inserted.training)


def run_penalty(model: nn.Module, inserted: Inserted) -> Tensor | float:
    """What the procedures add to the loss."""
    total: Tensor | float = 0.0
    for number, procedure in enumerate(inserted.technique.procedures):
        penalty = FUNCTIONS[procedure.name].penalty
        if penalty is not None:
            total = total + penalty(_work(model, inserted, number, procedure))
    return total


def run_step(model: nn.Module, inserted: Inserted, done: int, total: int) -> None:
    """Runs what follows a step of the optimizer. done: steps done, from 1."""
    for number, procedure in enumerate(inserted.technique.procedures):
        step = FUNCTIONS[procedure.name].step
        if step is not None:
            step(_work(model, inserted, number, procedure), done, total)


def refuse_waiting(inserted: Inserted) -> NoReturn:
    """Raises PeftrefError `no-batches`: a technique that begins from data would be trained before it has begun."""
    text = f"{inserted.technique.name} begins from data ({', '.join(inserted.waiting)}), and was given none"
    raise fail("no-batches", text, hint="attach(model, technique, batches=...), or attached.begin(batches)")


def remembered(inserted: Inserted) -> dict[str, Tensor]:
    """What the procedures remember, by names under which it is saved."""
    return {
        f"procedures.{number}.{key}": value
        for number, memory in enumerate(inserted.memory)
        for key, value in memory.items()
    }


def remember(inserted: Inserted, saved: Mapping[str, Tensor]) -> None:
    """Takes back what the procedures remembered when the module was saved."""
    for name, value in saved.items():
        if name.startswith("procedures."):
            _, number, key = name.split(".", 2)
            inserted.memory[int(number)][key] = value


def _work(
    model: nn.Module,
    inserted: Inserted,
    number: int,
    procedure: Procedure,
    seed: int = 0,
    batches: Iterable[Batch] = (),
) -> Work:
    places = tuple(_places(model, inserted, procedure))
    told = arguments(procedure, inserted.technique)
    return Work(places, told, inserted.memory[number], seed, model, batches)


def _places(model: nn.Module, inserted: Inserted, procedure: Procedure) -> Iterator[Place]:
    called = leaves(procedure)
    for placement in inserted.placed:
        have = {leaf.name for leaf in placement.leaves}
        if not set(called.values()) <= have:
            continue
        site, known = placement.site, placement.insertion.leaves
        names = {ours: copy_name(known[leaf], site) for ours, leaf in called.items()}
        found = {ours: inserted.leaf(name) for ours, name in names.items()}
        yield Place(site, found, names, partial(Own(module_at(model, site.path)).quantity, site=site))
