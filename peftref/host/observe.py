"""Observe a model without weights: the graph of one forward on the meta device, and where that stops, with a witness."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from torch import Tensor
from torch.distributions import Distribution
from torch.fx.experimental._config import patch as masks_take_all  # type: ignore[attr-defined]
from transformers import PreTrainedModel

from peftref.host.build import quiet, said_by
from peftref.host.graph import Graph
from peftref.host.inputs import inputs_of
from peftref.host.trace import record
from peftref.host.witness import witnesses
from peftref.problem import fail


def observe(model: PreTrainedModel) -> Graph:
    """The graph of one forward of a model on the meta device, for the first inputs with which it runs.

    Where its code asks for numbers that meta tensors do not have and stops, a small model of the same class runs on CPU and the numbers
    that it is asked for are answered. Raises PeftrefError `host-not-run` with what failed on meta.
    """
    said = ""
    sets: list[dict[str, Tensor]] = []
    with quiet(), _unchecked():
        for inputs in inputs_of(model):
            sets.append(inputs)
            try:
                with masks_take_all(meta_nonzero_assume_all_nonzero=True):
                    return record(model, inputs)
            except Exception as error:
                said = said or said_by(error)
        for at, shadows in witnesses(model, sets):
            with suppress(Exception):  # whatever the model says: then the next witness is asked
                return shadows.heard(record(model, sets[at], shadows=shadows))
    raise fail(
        "host-not-run",
        f"{type(model).__name__} cannot be run on the meta device: {said or 'it takes no input that is known here'}",
    )


@contextmanager
def _unchecked() -> Iterator[None]:
    """Let distributions take parameters without looking at their numbers, which a meta tensor has not."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
