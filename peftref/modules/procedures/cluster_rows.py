"""Rows of a weight in clusters, each with directions of its own among the first right singular vectors (AdaMSS, as peft has it)."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from peftref.modules.procedures.work import Work


@torch.no_grad()
def begin(work: Work) -> None:
    """Gives every site `right` [n, d_in], `bias` [n, d_out], `clusters` [d_out] and `directions` [k, r, n].

    Of [W, b] = U S V^T, `right` is V^T without its last column, which is `bias` @ b: S^-1 U^T. The rows of U are clustered; the directions of a cluster are the first right singular
    vectors of its rows, zero where it has fewer rows than directions.
    """
    for place in work.places:
        n, (k, r, _) = len(place.leaves["right"]), place.leaves["directions"].shape
        weight, bias = place.weight, place.bias
        whole = weight if bias is None else torch.cat([weight, bias[:, None]], 1)
        left, values, right = torch.linalg.svd(whole, full_matrices=False)
        left, right = left[:, :n], right[:n]
        seed = zlib.crc32(place.names["clusters"].encode(), work.seed % 2**32)
        first = torch.randperm(len(left), generator=torch.Generator().manual_seed(seed))[:k]
        clusters = lloyd(left, left[first.to(left.device)], int(work.told["turns"]))
        inverse = torch.where(values > 1e-6 * values[0], 1 / values, torch.zeros_like(values))[:n]
        place.put(
            right=right[:, : weight.shape[1]],
            bias=inverse[:, None] * left.T,
            clusters=clusters,
            directions=directions(left, clusters, k, r),
        )


def lloyd(rows: Tensor, centres: Tensor, turns: int) -> Tensor:
    """The cluster of every row, after Lloyd's algorithm from some centres [k, n]; an empty cluster takes the farthest row."""
    nearest = torch.cdist(rows, centres).argmin(1)
    for _ in range(turns):
        many = nearest.bincount(minlength=len(centres))
        sums = torch.zeros_like(centres).index_add_(0, nearest, rows)
        centres = torch.where(many[:, None] > 0, sums / many.clamp_min(1)[:, None], centres)
        far = torch.cdist(rows, centres).gather(1, nearest[:, None]).flatten().argsort(descending=True)
        empty = (many == 0).nonzero().flatten()
        centres[empty] = rows[far[: len(empty)]]
        before, nearest = nearest, torch.cdist(rows, centres).argmin(1)
        if torch.equal(before, nearest):
            break
    return nearest


def directions(left: Tensor, clusters: Tensor, k: int, r: int) -> Tensor:
    """For each cluster the first r right singular vectors of its rows of [d_out, n], as [k, r, n]."""
    found = left.new_zeros(k, r, left.shape[1])
    for cluster in range(k):
        right = torch.linalg.svd(left[clusters == cluster], full_matrices=False).Vh[:r]
        found[cluster, : len(right)] = right
    return found
