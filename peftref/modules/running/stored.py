"""A weight as it stands in a host's module: plain numbers, or few bits with what is needed to make numbers of them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def is_plain(module: Any) -> bool:
    """Whether a module's weight is an ordinary tensor of floating-point numbers.

    >>> is_plain(nn.Linear(2, 3))
    True
    """
    weight: Any = module.weight
    return type(weight) in (nn.Parameter, Tensor) and weight.is_floating_point()


def plain(module: Any) -> Tensor:
    """The weight of a module as an ordinary tensor, made from its few bits where it is kept in few; no gradient flows into those.

    Known are the weights of torchao and optimum-quanto, which know how to make themselves plain, and of bitsandbytes.

    >>> plain(nn.Linear(2, 3)).shape
    torch.Size([3, 2])
    """
    weight: Any = module.weight
    if is_plain(module):
        found: Tensor = weight
        return found
    made: Tensor = _dequantised(module, weight)
    return made.detach()


def _dequantised(module: Any, weight: Any) -> Tensor:
    state = getattr(weight, "quant_state", None)
    if state is not None:
        from bitsandbytes.functional import dequantize_4bit

        four: Tensor = dequantize_4bit(weight.data, state)
        return four
    scale = getattr(weight, "SCB", None)
    if scale is None:
        scale = getattr(getattr(module, "state", None), "SCB", None)
    if scale is not None:
        from bitsandbytes.functional import int8_vectorwise_dequant

        eight: Tensor = int8_vectorwise_dequant(weight.data, scale)
        return eight
    if hasattr(weight, "full_tensor"):  # a shard of a plain weight
        return weight  # type: ignore[no-any-return]
    found: Tensor = weight.dequantize()
    return found
