"""Observe a model without weights: the graph of one forward on the meta device, and where that stops, with a witness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import replace

from torch import Tensor
from torch.distributions import Distribution
from torch.fx.experimental._config import patch as masks_take_all  # type: ignore[attr-defined]
from transformers import PreTrainedModel

from peftref.core.problem import fail
from peftref.host.observe.build import quiet, said_by
from peftref.host.observe.graph import Graph
from peftref.host.observe.inputs import inputs_of
from peftref.host.observe.trace import record
from peftref.host.observe.witness import witnesses


def observe(model: PreTrainedModel) -> Graph:
    """The graph of one forward of a model on the meta device, for the first inputs with which it runs, those that leave nothing out first.

    Where its code asks for numbers that meta tensors do not have and stops, a small model of the same class runs on CPU and the numbers
    that it is asked for are answered. Raises PeftrefError `host-not-run` with what failed on meta.
    """
    said = ""
    sets: list[dict[str, Tensor]] = []
    best: Graph | None = None
    with quiet(), _unchecked():
        for inputs in inputs_of(model):
            sets.append(inputs)
            if best and _missing(sets, inputs) >= best.left_out.keys():
                continue
            try:
                with masks_take_all(meta_nonzero_assume_all_nonzero=True):
                    best = _leaving_out(record(model, inputs), sets, inputs, said)
            except Exception as error:
                said = said or said_by(error)
            if best and not best.left_out:
                return best
        if best:
            return best
        for at, shadows in witnesses(model, sets):
            with suppress(Exception):  # whatever the model says: then the next witness is asked
                return _leaving_out(shadows.heard(record(model, sets[at], shadows=shadows)), sets, sets[at], said)
    raise fail(
        "host-not-run",
        f"{type(model).__name__} cannot be run on the meta device: {said or 'it takes no input that is known here'}",
    )


def _missing(sets: Sequence[Mapping[str, Tensor]], given: Mapping[str, Tensor]) -> Set[str]:
    """The names of what the fullest inputs have and others have not."""
    return sets[0].keys() - given.keys()


def _leaving_out(graph: Graph, sets: Sequence[Mapping[str, Tensor]], given: Mapping[str, Tensor], said: str) -> Graph:
    return replace(graph, left_out=dict.fromkeys(sorted(_missing(sets, given)), said))


@contextmanager
def _unchecked() -> Iterator[None]:
    """Let distributions take parameters without looking at their numbers, which a meta tensor has not."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
