"""A weight on a grid of few bits, and factors that begin at what the grid loses (LoftQ, arXiv 2310.08659)."""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor

from peftref.modules.procedures.work import Work


@torch.no_grad()
def begin(work: Work) -> None:
    """Gives `weight` the grid's numbers nearest to W - up @ down, and `up`, `down` the first singular vectors of W - weight, in turns."""
    bits, block = int(work.told["bits"]), int(work.told["block"])
    for place in work.places:
        weight = place.weight
        r = place.leaves["down"].shape[0]
        up, down = weight.new_zeros(weight.shape[0], r), weight.new_zeros(r, weight.shape[1])
        for _ in range(int(work.told["turns"])):
            grid = quantised(weight - up @ down, bits, block)
            left, values, right = torch.linalg.svd(weight - grid, full_matrices=False)
            root = values[:r].sqrt()
            up, down = left[:, :r] * root, root[:, None] * right[:r]
        place.put(weight=grid, up=up, down=down)


def levels(bits: int) -> Tensor:
    """The 2^bits levels of a NormalFloat between -1 and 1, 0 among them: quantiles of a normal number (arXiv 2305.14314, appendix E).

    >>> [round(level, 4) for level in levels(2).tolist()]
    [-1.0, 0.0, 0.4358, 1.0]
    """
    many = 2**bits
    edge = 1 - (1 / (2 * many) + 1 / (2 * (many - 1))) / 2
    above, below = (
        [NormalDist().inv_cdf(edge + (0.5 - edge) * i / n) for i in range(n)] for n in (many // 2, many // 2 - 1)
    )
    largest = above[0]
    return torch.tensor(sorted([level / largest for level in above] + [0.0] + [-level / largest for level in below]))


def quantised(weight: Tensor, bits: int, block: int) -> Tensor:
    """The nearest numbers of the grid: levels times the largest absolute number of each block of the flat weight."""
    known = levels(bits).to(weight)
    flat = torch.nn.functional.pad(weight.flatten(), (0, -weight.numel() % block)).view(-1, block)
    scale = flat.abs().amax(1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    between = (known[1:] + known[:-1]) / 2
    return (known[torch.bucketize(flat / scale, between)] * scale).flatten()[: weight.numel()].view_as(weight)
