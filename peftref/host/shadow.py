"""Real values for the small tensors of a meta run that depend on no parameter: positions, masks, lengths.

Code that asks a tensor for a number (`item`, `if tensor:`) stops on the meta device. Where that number follows from shapes
and token ids alone it is known here; where it hangs on a parameter, zero is answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

LIMIT = 1 << 16
_NUMBER = "_local_scalar_dense"


class Shadows:
    """Keeps a CPU copy of every small tensor that could be computed without any parameter."""

    def __init__(self) -> None:
        self._known: dict[int, torch.Tensor] = {}

    def note(self, tensor: torch.Tensor, real: torch.Tensor) -> None:
        """Say what a meta tensor would hold; both have one shape. The caller keeps the meta tensor alive."""
        self._known[id(tensor)] = real

    def forget(self, tensors: Iterable[torch.Tensor]) -> None:
        """Forget what tensors hold, because something unknown was written into them."""
        for tensor in tensors:
            self._known.pop(id(tensor), None)

    def call(self, func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Run an operator; on the CPU copies too where all its operands have one. Raises what the operator raises."""
        name = func._schema.name.split("::")[-1]
        known = all(self._has(tensor) for tensor in tensors_of((args, kwargs)))
        if name == _NUMBER:
            return self._number(func, args, known)
        if not known or torch.Tag.nondeterministic_seeded in func.tags:
            return func(*args, **kwargs)
        try:
            result = func(*args, **kwargs)
        except NotImplementedError:  # the size of the result hangs on values
            real = func(*self._real(args), **self._real(kwargs))
            result = _like(real)
        else:
            if any(tensor.numel() > LIMIT for tensor in tensors_of(result)):
                return result
            real = func(*self._real(args), **self._real(kwargs))
        for tensor, copy in zip(tensors_of(result), tensors_of(real), strict=True):
            if tensor.is_meta:
                self.note(tensor, copy)
        return result

    def _number(self, func: Any, args: Any, known: bool) -> Any:
        if known:
            return func(*self._real(args))
        return torch.zeros((), dtype=args[0].dtype, device="cpu").item()

    def _has(self, tensor: torch.Tensor) -> bool:
        return id(tensor) in self._known or (not tensor.is_meta and tensor.numel() <= LIMIT)

    def _real(self, tree: Any) -> Any:
        if isinstance(tree, torch.Tensor):
            return self._known.get(id(tree), tree)
        if isinstance(tree, torch.device):
            return torch.device("cpu")
        if isinstance(tree, Mapping):
            return {key: self._real(item) for key, item in tree.items()}
        if isinstance(tree, (list, tuple)):
            return [self._real(item) for item in tree]
        return tree


def tensors_of(tree: Any) -> Iterable[torch.Tensor]:
    """The tensors in a nest of lists, tuples and mappings, in order."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for item in tree.values():
            yield from tensors_of(item)
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            yield from tensors_of(item)


def _like(real: Any) -> Any:
    if isinstance(real, torch.Tensor):
        return torch.empty_like(real, device="meta")
    return type(real)(_like(item) for item in real)
