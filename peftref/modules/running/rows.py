"""The rows of a slot in a fused projection: taken out of the last axis, and put back."""

from __future__ import annotations

import torch
from torch import Tensor

from peftref.host.site import Rows


def take(h: Tensor, rows: Rows) -> Tensor:
    """The rows of a slot out of the last axis of a fused output."""
    if len(rows.shape) == 1:
        return h[..., rows.start : rows.stop]
    cut = h.reshape(*h.shape[:-1], *rows.shape)
    part = cut.narrow(rows.axis - len(rows.shape), rows.start, rows.stop - rows.start)
    return part.flatten(-len(rows.shape))


def put(h: Tensor, rows: Rows, part: Tensor) -> Tensor:
    """The fused output with the rows of a slot replaced; what was there before stays as it is."""
    if len(rows.shape) == 1:
        return torch.cat([h[..., : rows.start], part, h[..., rows.stop :]], -1)
    axis = rows.axis - len(rows.shape)
    cut = h.reshape(*h.shape[:-1], *rows.shape)
    shape = [*h.shape[:-1], *rows.shape]
    shape[axis] = rows.stop - rows.start
    pieces = [
        cut.narrow(axis, 0, rows.start),
        part.reshape(shape),
        cut.narrow(axis, rows.stop, rows.shape[rows.axis] - rows.stop),
    ]
    return torch.cat(pieces, axis).reshape(h.shape)
