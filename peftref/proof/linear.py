"""Whether a linear slot's output is its rows of the weight times what it reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from peftref.host.site import Site
from peftref.modules.running.bare import module_at
from peftref.proof.ports import pick
from peftref.proof.trial import Trial

Finding = tuple[bool | None, str]


def is_its_map(trial: Trial, site: Site) -> Finding:
    """True where h = W x + b holds for the rows of the site, False where not; None for what is no plain matrix."""
    module: Any = module_at(trial.model, site.path)
    x, h = (trial.base.ports.get(site.ports[name]) if name in site.ports else None for name in ("x", "h"))
    weight = getattr(module, "weight", None)
    if x is None or h is None or not isinstance(weight, Tensor):
        return None, "it was not called with one matrix in the small instance"
    rows = site.ports["h"].rows
    if site.form == "convolution":
        right = h.shape[1] == site.sizes["d_out"] or h.shape[-1] == site.sizes["d_out"]
        return (None, "a convolution") if right else (False, f"it gives {h.shape[1]} channels")
    if site.form == "table":
        made = torch.nn.functional.embedding(x, weight) * getattr(module, "embed_scale", 1)
        return _close(h, made)
    matrix = weight.T if site.form == "transposed" else weight
    matrix = pick(matrix.T, rows).T
    if tuple(matrix.shape) != (site.sizes["d_out"], site.sizes["d_in"]):
        return False, f"its rows are {tuple(matrix.shape)}, not {(site.sizes['d_out'], site.sizes['d_in'])}"
    bias = getattr(module, "bias", None)
    if (bias is None) != ("b" in site.lacks):
        return False, "it is said to have a bias and has none, or the other way round"
    made = x @ matrix.T + (0 if bias is None else pick(bias, rows))
    return _close(h, made)


def _close(h: Tensor, made: Tensor) -> Finding:
    if made.shape != h.shape:
        return None, "its output has another shape than its rows times what it reads"
    error = float((made.detach().double() - h.detach().double()).abs().max())
    right = error <= 1e-3 * max(1.0, float(h.abs().max()))
    return right, f"its output {'is' if right else 'is not'} its rows times what it reads"
