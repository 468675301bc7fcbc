"""The weights of all layers of a slot over one basis, W = U diag(l) V^T (FRoD, doi 10.1609/aaai.v40i31.39813)."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from peftref.modules.procedures.work import Work


@torch.no_grad()
def begin(work: Work) -> None:
    """Gives each slot `right` [d_in, d_in] and `positions`, and each of its sites `left` [d_out, d_in] and `lengths` [d_in]."""
    for places in work.together("right"):
        weights = [place.weight.double() for place in places]
        right = basis(weights, float(work.told["ridge"]))
        positions = places[0].leaves["positions"]
        seed = zlib.crc32(places[0].names["positions"].encode(), work.seed % 2**32)
        drawn = beside_diagonal(positions.numel(), len(right), torch.Generator().manual_seed(seed))
        places[0].put(right=right, positions=drawn.view_as(positions))
        for place, weight in zip(places, weights, strict=True):
            scaled = _over(right, weight)
            lengths = scaled.norm(dim=0)
            used = lengths > 1e-12
            left = torch.where(used, scaled / lengths.where(used, torch.ones_like(lengths)), torch.zeros_like(scaled))
            place.put(left=left, lengths=lengths)


def basis(weights: list[Tensor], ridge: float) -> Tensor:
    """The common right basis [n, n] of weights [m, n], as the higher-order generalised decomposition has it.

    With the stacked weights Q R, its columns are R^T times the eigenvectors of the mean of (Q_i^T Q_i + ridge I)^-1. Where the
    stack has fewer rows than columns, they are its right singular vectors.
    """
    stacked = torch.cat(weights)
    if stacked.shape[0] < stacked.shape[1]:
        right: Tensor = torch.linalg.svd(stacked, full_matrices=True).Vh
        return right.T
    orthonormal, triangular = torch.linalg.qr(stacked)
    eye = torch.eye(stacked.shape[1], dtype=stacked.dtype, device=stacked.device)
    parts = orthonormal.split([len(weight) for weight in weights])
    mean = torch.stack([torch.linalg.inv(part.T @ part + ridge * eye) for part in parts]).mean(0)
    vectors: Tensor = torch.linalg.eigh(mean).eigenvectors
    found: Tensor = triangular.T @ vectors
    return found


def beside_diagonal(count: int, n: int, generator: torch.Generator) -> Tensor:
    """Positions in a flat matrix [n, n], beside its diagonal, each once, drawn at random.

    >>> sorted(beside_diagonal(6, 3, torch.Generator()).tolist())
    [1, 2, 3, 5, 6, 7]
    """
    drawn = torch.randperm(n * (n - 1), generator=generator)[:count]
    row, column = drawn // max(1, n - 1), drawn % max(1, n - 1)
    return row * n + column + (column >= row).long()


def _over(right: Tensor, weight: Tensor) -> Tensor:
    """The matrix X with X V^T = W, or the nearest to it where V has no inverse."""
    found, info = torch.linalg.solve_ex(right, weight.T)
    if int(info) != 0:
        found = torch.linalg.pinv(right, rtol=1e-6) @ weight.T
    transposed: Tensor = found.T
    return transposed
