"""A weight with orthonormal rows as torch's orthogonal parametrisation keeps it: a matrix of numbers beside a square base."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from peftref.core.problem import PeftrefError, Problem

_ORIGINAL, _BASE = "parametrizations.weight.original", "parametrizations.weight.0.base"
_BOUND = 1e-3


@torch.no_grad()
def plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with the weights instead of what parametrises them.

    Raises PeftrefError `peer-differs` where what is kept gives no orthonormal rows: the diagonal of the numbers holds signs, which
    torch cuts to whole numbers, so that weight decay sets the weight to zero.
    """
    found, problems = dict(tensors), []
    for key in sorted(key for key in tensors if key.endswith(f".{_ORIGINAL}")):
        stem = key.removesuffix(_ORIGINAL)
        if f"{stem}{_BASE}" not in tensors:
            continue
        original, base = found.pop(key), found.pop(f"{stem}{_BASE}")
        weight = _weight(original, base)
        if weight is None:
            problems.append(Problem("peer-differs", f"{key} and its base do not fit each other"))
        elif (weight @ weight.T - torch.eye(len(weight), dtype=weight.dtype)).abs().max() > _BOUND:
            hint = "weight decay while training does this: the diagonal there holds signs; train it without"
            problems.append(Problem("peer-differs", f"{stem}weight has no orthonormal rows", hint=hint))
        else:
            found[f"{stem}weight"] = weight
    if problems:
        raise PeftrefError(problems)
    return found


def _weight(original: Tensor, base: Tensor) -> Tensor | None:
    """What torch makes of the two; None where it cannot."""
    if original.dim() != 2 or base.shape != (max(original.shape),) * 2:
        return None
    rows, columns = original.shape
    kept = parametrizations.orthogonal(nn.Linear(columns, rows, bias=False, dtype=original.dtype))
    kept.load_state_dict({_ORIGINAL: original, _BASE: base})
    with torch.no_grad():
        weight: Tensor = kept(torch.eye(columns, dtype=original.dtype)).T
    return weight


@torch.no_grad()
def parametrised(key: str, weight: Tensor) -> dict[str, Tensor]:
    """What keeps a weight [r, n] with orthonormal rows, r at most n: a base that begins with them, which nothing turns.

    >>> kept = parametrised("projection.weight", torch.eye(3)[1:])
    >>> sorted(kept), plain(kept)["projection.weight"].tolist()
    (['projection.parametrizations.weight.0.base', 'projection.parametrizations.weight.original'], [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    """
    stem = key.removesuffix("weight")
    rest = torch.linalg.qr(weight.T, mode="complete").Q[:, len(weight) :]
    base = torch.cat([weight.T, rest], dim=1).contiguous()
    return {f"{stem}{_ORIGINAL}": -torch.eye(*weight.shape, dtype=weight.dtype), f"{stem}{_BASE}": base}
