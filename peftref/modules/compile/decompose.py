"""Decompositions that several leaves of a site begin from, made once."""

from __future__ import annotations

import torch
from torch import Tensor


class Decompositions:
    """The singular value decomposition of the weight that was asked for last.

    >>> made = Decompositions()
    >>> left, values, right = made.svd(torch.eye(2))
    >>> made.svd(torch.eye(2))[1].tolist()
    [1.0, 1.0]
    """

    def __init__(self) -> None:
        self.of: Tensor | None = None
        self.seen: tuple[object, ...] = ()
        self.parts: tuple[Tensor, Tensor, Tensor] | None = None

    def svd(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Left vectors as columns, values, right vectors as rows, in single precision."""
        now = (weight.data_ptr(), weight._version, weight.shape, weight.stride(), weight.dtype)
        if self.parts is None or now != self.seen:
            self.of, self.seen = weight, now  # the weight itself is held, so that no other can take its place in memory
            self.parts = torch.linalg.svd(weight.float(), full_matrices=False)
        return self.parts
