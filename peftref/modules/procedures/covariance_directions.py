"""Factors at singular vectors of a weight seen through the covariance of its input (CorDA, arXiv 2406.05223)."""

from __future__ import annotations

import torch
from torch import Tensor

from peftref.modules.procedures.inputs import key, moments
from peftref.modules.procedures.work import Work


@torch.no_grad()
def begin(work: Work) -> None:
    """Gives `up` [d_out, r] and `down` [r, d_in] a part of W = (U S V^T) C^-1, where U S V^T decomposes W C, and their copies the same.

    C is the mean of x x^T with some of its mean diagonal added, in units of that mean.
    """
    seen = moments(work)
    made = {name: _covariance(each.spread(centred=False), float(work.told["damp"])) for name, each in seen.items()}
    for place in work.places:
        covariance, inverse = made[key(place)]
        left, values, right = torch.linalg.svd(place.weight @ covariance, full_matrices=False)
        r = place.leaves["down"].shape[0]
        part = slice(None, r) if work.told["take"] == "first" else slice(max(0, len(values) - r), None)
        root = values[part].sqrt()
        up, down = left[:, part] * root, root[:, None] * (right[part] @ inverse)
        place.put(up=up, down=down, up_copy=up, down_copy=down)


def _covariance(spread: Tensor, damp: float) -> tuple[Tensor, Tensor]:
    """The damped covariance and its inverse; damped twice as much until the inverse is one (to 0.05)."""
    eye = torch.eye(len(spread), dtype=spread.dtype, device=spread.device)
    spread = spread / spread.diagonal().mean()
    while True:
        covariance = spread + damp * eye
        inverse = torch.linalg.inv(covariance)
        if torch.dist(covariance @ inverse, eye) < 0.05 or damp > 1:
            return covariance, inverse
        damp = max(2 * damp, 1e-6)
