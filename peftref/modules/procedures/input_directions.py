"""A factor that begins at the principal directions of what enters its site (EVA, arXiv 2410.07170)."""

from __future__ import annotations

import torch

from peftref.modules.procedures.inputs import key, moments
from peftref.modules.procedures.work import Work


@torch.no_grad()
def begin(work: Work) -> None:
    """Gives `down` [r, d_in] the first r principal directions of the inputs, as orthonormal rows; the largest number of each is positive."""
    seen = moments(work)
    made = {name: torch.linalg.eigh(each.spread(centred=True)).eigenvectors.flip(1).T for name, each in seen.items()}
    for place in work.places:
        rows = made[key(place)][: place.leaves["down"].shape[0]]
        largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
        place.put(down=rows * largest.sign())
