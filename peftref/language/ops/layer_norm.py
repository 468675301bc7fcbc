"""layer_norm: layer normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peftref.language.op import Op
from peftref.language.rules import vector

if TYPE_CHECKING:
    from torch import Tensor

    from peftref.language.op import Array


def layer_norm(h: Tensor, gain: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    """Layer normalisation over the last axis."""
    from torch.nn.functional import layer_norm

    return layer_norm(h, h.shape[-1:], gain, shift)


def _oracle(h: Array, gain: Array | float = 1.0, shift: Array | float = 0.0) -> Array:
    import numpy as np

    return np.asarray((h - h.mean()) / np.sqrt(h.var() + 1e-5) * gain + shift)


OPS = (
    Op(
        name="layer_norm", family="normalisation",
        about="layer normalisation of a vector per token, with gain and shift where given", example="layer_norm(h, l, beta)",
        arity=(1, 3), rule=vector, function=layer_norm, oracle=_oracle, opaque=True, costly=True,
        latex=r"\operatorname{{LN}}({operands})",
    ),
)  # fmt: skip
