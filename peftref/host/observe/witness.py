"""A small model that runs on CPU in place of one that has no numbers, and answers what code asks tensors for.

Code asks a tensor for a number, for a list, or for as many rows as a mask lets in. Where that hangs on a parameter or on a buffer, a
tensor on the meta device has no answer. A witness is a model of the same class with as many layers and experts, the same
vocabulary and narrower widths. It runs once; of what each of its questions was asked is kept in order; then the model itself runs on meta,
and each question is answered as the witness answered it at that place. So paths, sizes and fused slices are the model's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from peftref.host.observe.build import small_models
from peftref.host.observe.graph import Graph
from peftref.host.observe.inputs import inputs_of
from peftref.host.observe.shadow import LIMIT, Shadows, hangs_on_values, like, tensors_of
from peftref.host.observe.shrink import Scale
from peftref.host.observe.trace import record

MOST_PARAMETERS = 150_000_000
SCALES = tuple(
    Scale(widths=widths, heads=heads, vocab=None, image=1, layers=False, experts=False)
    for widths, heads in ((8, False), (8, True), (32, True), (2, False), (1, False))
)


class UnlikeError(RuntimeError):
    """A model asked something else than its witness did."""


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, and the numbers of what it was asked of, tensor by tensor: None where they are many and no whole numbers."""

    name: str
    of: tuple[Tensor | None, ...]


def witnesses(model: PreTrainedModel, sets: Sequence[Mapping[str, Tensor]]) -> Iterator[tuple[int, Telling]]:
    """What small models of a model's class answer on inputs like those of `sets`, each with the place of its inputs in it.

    Nothing where none runs, and where none is asked.
    """
    for small in small_models(model, SCALES, MOST_PARAMETERS):
        for at, (inputs, wanted) in enumerate(zip(inputs_of(small), sets, strict=False)):
            keeping = Keeping()
            try:
                record(small, {name: each.clone() for name, each in inputs.items()}, "cpu", keeping)
            except Exception:  # whatever the model says: then the next inputs are tried
                continue
            if keeping.asked and inputs.keys() == wanted.keys():
                yield at, Telling(tuple(keeping.asked))


class Keeping(Shadows):
    """Keeps the questions of a run on CPU in order."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Question] = []

    def call(self, func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Run an operator on CPU, and keep it where it is a question."""
        if hangs_on_values(func, args):
            self._keep(str(func), tensors_of((args, kwargs)))
        return func(*args, **kwargs)

    def listed(self, tensor: Tensor) -> Tensor | None:
        """What a tensor holds, which is kept."""
        self._keep("list", (tensor,))
        return tensor

    def _keep(self, name: str, tensors: Any) -> None:
        with torch.utils._python_dispatch._disable_current_modes():
            self.asked.append(Question(name, tuple(map(_kept, tensors))))


class Telling(Shadows):
    """Answers the questions of a run on meta as a witness did; what is known without it stays as it is known."""

    def __init__(self, asked: tuple[Question, ...]) -> None:
        super().__init__()
        self._asked, self._at = asked, 0

    def heard(self, graph: Graph) -> Graph:
        """The graph of a run that is over. Raises UnlikeError where the witness was asked more."""
        if self._at != len(self._asked):
            raise UnlikeError(f"{self._at} of {len(self._asked)} questions were asked")
        return graph

    def call(self, func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Run an operator; one whose result hangs on numbers that are not known gives what follows from the witness's."""
        if not hangs_on_values(func, args):
            return super().call(func, args, kwargs)
        tensors = tuple(tensors_of((args, kwargs)))
        told = self._tell(str(func), tensors)
        if all(self._has(tensor) for tensor in tensors):
            return super().call(func, args, kwargs)
        if not told:
            raise UnlikeError(f"{func} hangs on numbers that the witness cannot tell")
        if func._schema.is_mutable:
            return args[0]
        blank = {
            id(tensor): torch.zeros((), dtype=tensor.dtype, device="cpu").expand(tensor.shape) for tensor in tensors
        }
        return like(func(*self._real(args, blank), **self._real(kwargs, blank)))

    def listed(self, tensor: Tensor) -> Tensor | None:
        """What a tensor holds, as the witness told where it is not known. Raises UnlikeError where that is something else."""
        self._tell("list", (tensor,))
        found = self.real(tensor)
        if found is None:
            raise UnlikeError("a list of numbers that the witness cannot tell")
        return found

    def _tell(self, name: str, tensors: Sequence[Tensor]) -> bool:
        """Note what the witness tells of the tensors that the next question is asked of, and say whether it tells of any."""
        question = self._asked[self._at] if self._at < len(self._asked) else None
        if question is None or question.name != name or len(question.of) != len(tensors):
            raise UnlikeError(f"{name} was asked in place of {question.name if question else 'nothing'}")
        self._at += 1
        for tensor, told in zip(tensors, question.of, strict=True):
            if told is not None and self.real(tensor) is None and told.shape == tensor.shape:
                self.note(tensor, told)
        return any(self.real(tensor) is not None for tensor in tensors)


def _kept(tensor: Tensor) -> Tensor | None:
    small = tensor.numel() <= LIMIT and (not tensor.is_floating_point() or tensor.numel() == 1)
    return tensor.detach().clone() if small else None
