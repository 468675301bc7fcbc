"""A module of the host as a linear map: its weight as a matrix, its input as rows, its output as vectors, and all three put back.

There is one row for each way in which hosts store a linear slot; nothing else knows of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peftref.core.problem import fail
from peftref.host.architecture import Form
from peftref.modules.running.entering import Entering, Units, Windows, vectors


class LinearMap:
    """As `nn.Linear` stores it: the weight is the matrix, the input is rows, the output is vectors."""

    def matrix(self, stored: Tensor, d_in: int) -> Tensor:
        """The weight as [d_out, d_in]; d_in: how wide what enters is."""
        return stored

    def stored(self, matrix: Tensor, like: Tensor) -> Tensor:
        """A matrix [d_out, d_in] as the host stores it; like: what is stored now."""
        return matrix

    def entering(self, module: nn.Module, given: Any) -> Tensor | Entering:
        """What enters, as rows [batch, tokens, d_in]. given: the argument of the module's call."""
        assert isinstance(given, Tensor)
        return given

    def vectors(self, module: nn.Module, given: Any, result: Tensor) -> Tensor:
        """What the map gives, [batch, tokens, d_out]. result: what the module's call gave."""
        return result

    def put(self, module: nn.Module, changed: Tensor, result: Tensor) -> Tensor:
        """Changed vectors in the form in which the module gives them."""
        return changed


class _Transposed(LinearMap):
    """As `Conv1D` of transformers stores it."""

    def matrix(self, stored: Tensor, d_in: int) -> Tensor:
        return stored.T

    def stored(self, matrix: Tensor, like: Tensor) -> Tensor:
        return matrix.T


class _Table(_Transposed):
    """As `nn.Embedding` stores it; where the host scales what it looks up, the scaling comes after the map."""

    def entering(self, module: nn.Module, given: Any) -> Entering:
        weight: Any = module.weight
        return Units(given, weight.shape[0], weight.dtype)

    def vectors(self, module: nn.Module, given: Any, result: Tensor) -> Tensor:
        weight: Any = module.weight
        return result if _scale(module) is None else F.embedding(given, weight, getattr(module, "padding_idx", None))

    def put(self, module: nn.Module, changed: Tensor, result: Tensor) -> Tensor:
        scale = _scale(module)
        return changed if scale is None else changed * scale


class _Convolution(LinearMap):
    """As `nn.Conv1d` to `nn.Conv3d` store it; a row of the matrix is a kernel, channel by channel.

    One in groups stores the blocks of a block-diagonal matrix on whole windows, one on the other.
    """

    def matrix(self, stored: Tensor, d_in: int) -> Tensor:
        kernels = stored.flatten(1)
        groups = d_in // kernels.shape[1]
        return kernels if groups == 1 else _block_diag(kernels.chunk(groups))

    def stored(self, matrix: Tensor, like: Tensor) -> Tensor:
        width = like[0].numel()
        groups = matrix.shape[1] // width
        if groups == 1:
            return matrix.reshape(like.shape)
        blocks = [rows[:, i * width : (i + 1) * width] for i, rows in enumerate(matrix.chunk(groups))]
        if sum(int(block.count_nonzero()) for block in blocks) != int(matrix.count_nonzero()):
            text = f"the change mixes the {groups} groups of a convolution, which keeps a map of its own for each"
            raise fail("mixes-groups", text, hint="leave it beside the host, or make the change block_diag")
        return torch.cat(blocks).reshape(like.shape)

    def entering(self, module: nn.Module, given: Any) -> Entering:
        return Windows(module, given)

    def vectors(self, module: nn.Module, given: Any, result: Tensor) -> Tensor:
        return vectors(result)

    def put(self, module: nn.Module, changed: Tensor, result: Tensor) -> Tensor:
        return changed.mT.reshape(result.shape)


FORMS: Mapping[Form, LinearMap] = MappingProxyType(
    {"matrix": LinearMap(), "transposed": _Transposed(), "table": _Table(), "convolution": _Convolution()}
)
"""How each form is read and written."""


def _block_diag(blocks: Sequence[Tensor]) -> Tensor:
    made: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]  # torch does not type it
    return made


def _scale(module: nn.Module) -> Any:
    scale: Any = getattr(module, "embed_scale", None)
    if isinstance(scale, Tensor):
        weight: Any = module.weight
        return scale.to(weight.dtype)
    return scale
