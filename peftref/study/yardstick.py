"""What a technique's cost is held against: the same host, frozen, with one trainable vector at its bottom, or its head alone.

The frozen host with a vector at the bottom (added to the token vectors) runs the whole backward pass through the host and
trains next to nothing: it is the least that a technique with a site in the first layer can cost. The head alone needs no
backward pass through the host at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from peftref.study.train.classifier import Classifier


class Yardstick:
    """A frozen copy of a host, with its head, to time and measure against."""

    def __init__(self, classifier: Classifier, device: str) -> None:
        self.model: Any = classifier.fresh(0, device)
        self.model.eval()
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in classifier.head)
        self.head: list[nn.Parameter] = [one for one in self.model.parameters() if one.requires_grad]
        embedding = self.model.get_input_embeddings()
        weight = next(embedding.parameters())
        self.vector = nn.Parameter(torch.zeros(weight.shape[-1], device=weight.device, dtype=weight.dtype))

    @contextmanager
    def bottom(self) -> Iterator[list[nn.Parameter]]:
        """The parameters to train, with the vector in place at the bottom of the host."""

        def add(module: object, inputs: object, output: torch.Tensor) -> torch.Tensor:
            return output + self.vector

        handle = self.model.get_input_embeddings().register_forward_hook(add)
        try:
            yield [self.vector, *self.head]
        finally:
            handle.remove()
