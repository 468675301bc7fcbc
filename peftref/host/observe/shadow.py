"""Real values for the small tensors of a meta run that depend on no parameter: positions, masks, lengths.

Code that asks a tensor for a number (`item`, `if tensor:`) stops on the meta device. Where that number follows from shapes
and token ids alone it is known here; where it hangs on a parameter, zero is answered, or what a witness says (`peftref.host.observe.witness`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

LIMIT = 1 << 16
_NUMBER = "_local_scalar_dense"


class Shadows:
    """Keeps a CPU copy of every small tensor that could be computed without any parameter."""

    def __init__(self) -> None:
        self._known: dict[int, torch.Tensor] = {}

    def note(self, tensor: torch.Tensor, real: torch.Tensor) -> None:
        """Say what a meta tensor would hold; both have one shape. The caller keeps the meta tensor alive."""
        self._known[id(tensor)] = real

    def real(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """What a tensor holds, None where that is not known."""
        return self._known.get(id(tensor), None if tensor.is_meta else tensor)

    def listed(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """What a tensor holds that is asked for as a list or a text, None where that is not known."""
        return self.real(tensor)

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
        if known and hangs_on_values(func, args):
            return self._counted(func, args, kwargs)
        if not known or torch.Tag.nondeterministic_seeded in func.tags:
            return self._run(func, args, kwargs)
        try:
            result = self._run(func, args, kwargs)
            if not any(tensor.is_meta for tensor in tensors_of(result)):
                return result
        except (NotImplementedError, RuntimeError) as error:  # the size of the result hangs on values
            if not isinstance(error, NotImplementedError) and "meta" not in str(error):
                raise
            real = func(*self._real(args), **self._real(kwargs))
            result = like(real)
        else:
            if any(tensor.numel() > LIMIT for tensor in tensors_of(result)):
                return result
            real = func(*self._real(args), **self._real(kwargs))
        return self._noted(result, real)

    def _counted(self, func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Run an operator on the CPU copies, whose numbers say how much it gives."""
        real = func(*self._real(args), **self._real(kwargs))
        if func._schema.is_mutable or not any(tensor.is_meta for tensor in tensors_of((args, kwargs))):
            return args[0] if func._schema.is_mutable else real
        return self._noted(like(real), real)

    def _noted(self, result: Any, real: Any) -> Any:
        for tensor, copy in zip(tensors_of(result), tensors_of(real), strict=True):
            if tensor.is_meta:
                self.note(tensor, copy)
        return result

    def _run(self, func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Run an operator; where it is given tensors of both devices, all on meta."""
        given = list(tensors_of((args, kwargs)))
        try:
            return func(*args, **kwargs)
        except RuntimeError:
            if len({tensor.is_meta for tensor in given}) < 2:
                raise
            return func(*_on_meta(args), **_on_meta(kwargs))

    def _number(self, func: Any, args: Any, known: bool) -> Any:
        if known:
            return func(*self._real(args))
        return torch.zeros((), dtype=args[0].dtype, device="cpu").item()

    def _has(self, tensor: torch.Tensor) -> bool:
        return id(tensor) in self._known or (not tensor.is_meta and tensor.numel() <= LIMIT)

    def _real(self, tree: Any, blank: Mapping[int, torch.Tensor] | None = None) -> Any:
        """A nest with the CPU copies of its tensors; blank: what stands for one that is not known."""
        if isinstance(tree, torch.Tensor):
            return self._known.get(id(tree), (blank or {}).get(id(tree), tree) if tree.is_meta else tree)
        if isinstance(tree, torch.device):
            return torch.device("cpu")
        if isinstance(tree, Mapping):
            return {key: self._real(item, blank) for key, item in tree.items()}
        if isinstance(tree, (list, tuple)):
            return [self._real(item, blank) for item in tree]
        return tree


class Numbers(TorchFunctionMode):
    """While it is active, meta tensors made of numbers that are written out are known, and give known numbers as lists and in texts.

    Where the numbers are not known, zeros are given.
    """

    def __init__(self, shadows: Shadows) -> None:
        super().__init__()
        self._shadows = shadows
        self._kept: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _LISTED:
            real = self._shadows.listed(args[0])
            with torch.utils._python_dispatch._disable_current_modes():
                known = torch.zeros(args[0].shape, dtype=args[0].dtype, device="cpu") if real is None else real
                return func(known, *args[1:])
        result = func(*args, **kwargs)
        if func in _WRITTEN and result.is_meta and not any(tensor.is_meta for tensor in tensors_of(args)):
            with torch.utils._python_dispatch._disable_current_modes():
                self._shadows.note(result, func(*args, **{**kwargs, "device": "cpu"}))
            self._kept.append(result)
        return result


_LISTED = (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__format__)
_WRITTEN = (torch.tensor, torch.as_tensor)


class Knowing(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's mode is not typed
    """While it is active, what is known of meta tensors is followed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's mode is not typed
        self.shadows = self._shadows = Shadows()
        self._kept: list[torch.Tensor] = []

    def at(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        """A tensor on a device; on meta, whole numbers are remembered."""
        moved = placed(tensor, device, self._shadows)
        self._kept.append(moved)
        return moved

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = self._shadows.call(func, args, kwargs or {})
        self._kept.extend(tensors_of(result))
        return result


def placed(tensor: torch.Tensor, device: torch.device | str, shadows: Shadows) -> torch.Tensor:
    """A tensor on a device; on meta the shadows note the numbers of one of whole numbers."""
    if torch.device(device).type != "meta":
        return tensor.to(device)
    with torch.utils._python_dispatch._disable_current_modes():
        moved = torch.empty_like(tensor, device="meta")
    if not tensor.is_floating_point():
        shadows.note(moved, tensor)
    return moved


def looks_back(mask: torch.Tensor) -> bool:
    """Whether a mask [..., queries, keys] shuts every later token out and lets every earlier one in.

    >>> looks_back(torch.ones(4, 4).tril().bool()), looks_back(torch.ones(4, 4))
    (True, False)
    """
    if mask.dim() < 2 or mask.shape[-1] != mask.shape[-2] or mask.shape[-1] < 2 or mask.numel() > LIMIT:
        return False
    size = mask.shape[-1]
    first = mask.reshape(-1, size, size)[0]
    later = torch.ones(size, size, dtype=torch.bool).triu(1)
    shut, let = first[later], first[~later]
    if mask.is_floating_point() and not bool(((first == 0) | (first == 1)).all()):
        return bool((shut < -1e3).all() and (let > -1e3).all())
    return bool((shut == shut[0]).all() and (let == let[0]).all() and shut[0] != let[0])


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


def _on_meta(tree: Any) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree if tree.is_meta else torch.empty_like(tree, device="meta")
    if isinstance(tree, Mapping):
        return {key: _on_meta(item) for key, item in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_on_meta(item) for item in tree)
    return tree


def like(real: Any) -> Any:
    """A nest of tensors of the same shapes on meta; what is no tensor is the same."""
    if isinstance(real, torch.Tensor):
        return torch.empty_like(real, device="meta")
    return type(real)(map(like, real)) if isinstance(real, (list, tuple)) else real


def hangs_on_values(func: Any, args: Any) -> bool:
    """Whether what an operator gives, or how much, hangs on the numbers of what it is given: a number, places, what a mask lets in."""
    name = func._schema.name.split("::")[-1]
    if name in _INDEXED:
        return any(isinstance(each, torch.Tensor) and each.dtype in (torch.bool, torch.uint8) for each in args[1])
    return not _HANGING.isdisjoint(func.tags)


_INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")
_HANGING = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
