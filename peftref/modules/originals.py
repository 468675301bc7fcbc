"""New values for the host's parameters, and the original ones kept until they are given back, bit by bit."""

from __future__ import annotations

from torch import Tensor, nn


def original(parameter: nn.Parameter) -> Tensor:
    """The values of a parameter, to be kept while `put_values` gives it others: where it can move aside itself, no copy is made.

    >>> layer = nn.Linear(2, 2)
    >>> original(layer.weight).data_ptr() == layer.weight.data_ptr()
    True
    """
    return parameter.data if _moves(parameter) else parameter.detach().to("cpu", copy=True)


def put_values(parameter: nn.Parameter, values: Tensor, *, ours: bool) -> None:
    """Gives a parameter other values, rounded to its type. ours: nothing else holds the tensor of values, which may become its own."""
    values = values.reshape(parameter.shape)
    if not _moves(parameter):
        parameter.data.copy_(values)
    elif ours and values.dtype == parameter.dtype and values.stride() == parameter.stride():
        parameter.data = values
    else:
        parameter.data = parameter.data.new_empty(parameter.shape).copy_(values)


def give_back(parameter: nn.Parameter, kept: Tensor) -> None:
    """Gives a parameter the values that `original` kept of it."""
    if _moves(parameter) and kept.device == parameter.device:
        parameter.data = kept
    else:
        parameter.data.copy_(kept)


def _moves(parameter: nn.Parameter) -> bool:
    """Whether a parameter may stand elsewhere in memory: an ordinary tensor on the CPU that no other process sees.

    On an accelerator, the original values are better off on the CPU than beside the new ones.
    """
    plain = parameter.device.type == "cpu" and type(parameter.data) is Tensor
    return plain and not parameter.is_shared()  # type: ignore[no-untyped-call]  # torch does not type it
