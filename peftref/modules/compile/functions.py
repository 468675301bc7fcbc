"""What generated source calls as `op`: the functions of the ops, faster forms of some, and what makes several steps in one.

Shapes are in torch's row layout; `...` stands for the implicit axes [batch, tokens] of a value per token.
"""

from __future__ import annotations

import sys
from types import ModuleType

import torch
from torch import Tensor

from peftref.language.ops import TABLE
from peftref.modules.compile.fourier import correlate, fourier
from peftref.modules.compile.sparse import sparse
from peftref.modules.compile.steered import steered
from peftref.modules.compile.unrolled import unrolled
from peftref.modules.running.entering import Entering
from peftref.modules.running.keep import Keep

FASTER = {"correlate": correlate, "fourier": fourier, "sparse": sparse, "steered": steered}
"""Forms of ops that keep less for backward or take less time than what their functions say."""


def add_product(h: Tensor, x: Tensor | Entering, matrix: Tensor, sign: int = 1) -> Tensor:
    """h [..., a] plus, or minus, a matrix [a, b] times x [..., b], written in one pass."""
    if isinstance(x, Entering):
        return h + sign * x.product(matrix)
    return torch.addmm(h.reshape(-1, h.shape[-1]), x.reshape(-1, x.shape[-1]), matrix.t(), alpha=sign).view(h.shape)


FUSED = {"Keep": Keep, "add_product": add_product, "unrolled": unrolled}


def functions() -> ModuleType:
    """Everything that generated source calls as `op`, in a module, which `torch.compile` looks up by its name.

    >>> functions().kron(torch.ones(1, 2), torch.ones(3, 1)).shape
    torch.Size([3, 2])
    """
    made = sys.modules.setdefault(_NAME, ModuleType(_NAME))
    vars(made).update({op.name: op.function for op in TABLE.values() if op.function is not None} | FASTER | FUSED)
    return made


_NAME = "peftref.generated.op"
