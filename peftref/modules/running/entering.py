"""What enters a linear slot where it is not kept as rows: token ids stand for unit vectors, an image or a sound for its windows.

A product with a matrix is made without the rows, as the host itself makes its own: a column is looked up, windows are convolved.
Every other operation of torch gets the rows themselves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Entering(ABC):
    """The input of a linear slot, [batch, tokens, d_in] for torch's functions, kept as what it is made from."""

    dtype: torch.dtype
    device: torch.device

    @abstractmethod
    def product(self, matrix: Tensor) -> Tensor:
        """The product of a matrix [k, d_in] with every row: [batch, tokens, k]."""

    @abstractmethod
    def rows(self) -> Tensor:
        """The rows themselves, [batch, tokens, d_in]."""

    def entries(self, at: Tensor) -> Tensor:
        """The numbers of every row at some positions: [batch, tokens, *positions]."""
        return self.rows()[..., at]

    @abstractmethod
    def to(self, dtype: torch.dtype) -> Self:
        """The same in another precision."""

    @abstractmethod
    def dropout(self, rate: float, training: bool) -> Any:
        """The same with numbers left out."""

    @abstractmethod
    def taken(self, index: Callable[[int, torch.device], Tensor]) -> Self:
        """Some samples of the batch. index: gives which ones of so many, on a device."""

    @abstractmethod
    def scaled(self, number: Tensor | float) -> Self:
        """The same times one number."""

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """What torch calls for a function that gets one of these."""
        given = kwargs or {}
        if func is F.linear and isinstance(args[0], Entering):
            return args[0]._linear(*args[1:], **given)
        if func is F.dropout and isinstance(args[0], Entering):
            return args[0].dropout(args[1] if len(args) > 1 else given["p"], given.get("training", True))
        if func in _PRODUCTS and any(_is_number(each) for each in args[:2]):
            own, other = args[:2] if isinstance(args[0], Entering) else args[1::-1]
            return own.scaled(other)
        return func(*map(_rows, args), **{name: _rows(value) for name, value in given.items()})

    def _linear(self, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        made = self.product(weight)
        return made if bias is None else made + bias

    def __matmul__(self, matrix: Tensor) -> Tensor:
        return self.product(matrix.mT)

    def __mul__(self, other: Any) -> Tensor | Self:
        return self.scaled(other) if _is_number(other) else self.rows() * other

    __rmul__ = __mul__

    def __add__(self, other: Any) -> Tensor:
        made: Tensor = self.rows() + other
        return made

    def __sub__(self, other: Any) -> Tensor:
        made: Tensor = self.rows() - other
        return made

    def __truediv__(self, other: Any) -> Tensor:
        made: Tensor = self.rows() / other
        return made

    def __neg__(self) -> Tensor:
        return -self.rows()

    def __getitem__(self, at: Any) -> Tensor:
        return self.entries(at[1]) if _is_entries(at) else self.rows()[at]

    def __getattr__(self, name: str) -> Any:
        """Methods and facts of the rows: `x.unflatten(...)`."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.rows(), name)


class Units(Entering):
    """Unit vectors, one for each id: a product with them looks up columns.

    ids: [batch, tokens]. size: how long the vectors are. factor: a number, or one for each of them. The column of a padding id
    learns as every other one does; what the model leaves out of attention and loss sends no gradient there.

    >>> units = Units(torch.tensor([[2, 0]]), 3)
    >>> units.rows().tolist()
    [[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]]
    >>> F.linear(units, torch.tensor([[1.0, 2.0, 3.0]])).tolist()
    [[[3.0], [1.0]]]
    """

    def __init__(
        self,
        ids: Tensor,
        size: int,
        dtype: torch.dtype = torch.float32,
        factor: Tensor | None = None,
    ) -> None:
        self.ids, self.size, self.dtype, self.device = ids, size, dtype, ids.device
        self.factor = factor

    def product(self, matrix: Tensor) -> Tensor:
        """Columns of the matrix."""
        columns = F.embedding(self.ids, matrix.mT)
        return columns if self.factor is None else columns * self.factor

    def rows(self) -> Tensor:
        """The unit vectors written out."""
        made = F.one_hot(self.ids, self.size).to(self.dtype)
        return made if self.factor is None else made * self.factor

    def entries(self, at: Tensor) -> Tensor:
        """1 where a position is the id, else 0, without the unit vectors."""
        made = (self.ids[(..., *(None,) * at.dim())] == at).to(self.dtype)
        return made if self.factor is None else made * self.factor.reshape(*self.factor.shape[:2], *(1,) * at.dim())

    def to(self, dtype: torch.dtype) -> Units:
        """The same in another precision."""
        factor = None if self.factor is None else self.factor.to(dtype)
        return Units(self.ids, self.size, dtype, factor)

    def dropout(self, rate: float, training: bool) -> Units:
        """A unit vector has one number to leave out: it goes as a whole."""
        if not training or rate == 0:
            return self
        ones = torch.ones(*self.ids.shape, 1, dtype=self.dtype, device=self.device)
        factor = F.dropout(ones if self.factor is None else ones * self.factor, rate)
        return Units(self.ids, self.size, self.dtype, factor)

    def taken(self, index: Callable[[int, torch.device], Tensor]) -> Units:
        """Some samples of the batch."""
        at = index(self.ids.shape[0], self.device)
        factor = self.factor if self.factor is None or self.factor.dim() == 0 else self.factor[at]
        return Units(self.ids[at], self.size, self.dtype, factor)

    def scaled(self, number: Tensor | float) -> Units:
        """The same times one number."""
        ones = torch.ones((), dtype=self.dtype, device=self.device) if self.factor is None else self.factor
        return Units(self.ids, self.size, self.dtype, ones * number)


class Windows(Entering):
    """The windows that a convolution sees: a product with them is a convolution of the same stride, padding and dilation.

    module: the convolution; of one in groups too, a window has every channel. whole: what enters it, [batch, channels, *space]. A window is read channel by channel.

    >>> conv = nn.Conv1d(1, 1, kernel_size=2, stride=2)
    >>> windows = Windows(conv, torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]))
    >>> windows.rows().tolist()
    [[[1.0, 2.0], [3.0, 4.0]]]
    """

    def __init__(self, module: nn.Module, whole: Tensor) -> None:
        self.module, self.whole = module, whole
        self.dtype, self.device = whole.dtype, whole.device

    def product(self, matrix: Tensor) -> Tensor:
        """The convolution with kernels that are the rows of the matrix."""
        module: Any = self.module
        kernels = matrix.reshape(matrix.shape[0], module.in_channels, *module.kernel_size)
        convolve: Callable[..., Tensor] = CONVOLUTIONS[kernels.dim() - 2]
        return vectors(convolve(self.whole, kernels, None, module.stride, module.padding, module.dilation))

    def rows(self) -> Tensor:
        """The windows written out."""
        module: Any = self.module
        space = len(module.kernel_size)
        cut = F.pad(self.whole, [each for width in reversed(module.padding) for each in (width, width)])
        for axis in range(space):
            apart = module.dilation[axis]
            cut = cut.unfold(2 + axis, (module.kernel_size[axis] - 1) * apart + 1, module.stride[axis])[..., ::apart]
        return cut.movedim(1, 1 + space).flatten(-space - 1).flatten(1, -2)

    def to(self, dtype: torch.dtype) -> Windows:
        """The same in another precision."""
        return Windows(self.module, self.whole.to(dtype))

    def dropout(self, rate: float, training: bool) -> Windows:
        """Numbers of the input left out, in all windows that see them."""
        return Windows(self.module, F.dropout(self.whole, rate, training))

    def taken(self, index: Callable[[int, torch.device], Tensor]) -> Windows:
        """Some samples of the batch."""
        return Windows(self.module, self.whole[index(self.whole.shape[0], self.device)])

    def scaled(self, number: Tensor | float) -> Windows:
        """The same times one number."""
        return Windows(self.module, self.whole * number)


CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
"""By the number of axes of space."""


def vectors(maps: Tensor) -> Tensor:
    """[batch, channels, *space] to [batch, tokens, channels]."""
    return maps.flatten(2).mT


_PRODUCTS = frozenset((torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.dim() == 0)


def _is_entries(at: Any) -> bool:
    """Whether an index is positions along the last axis: `x[..., positions]`."""
    return isinstance(at, tuple) and len(at) == 2 and at[0] is ... and isinstance(at[1], Tensor)


def _rows(value: Any) -> Any:
    return value.rows() if isinstance(value, Entering) else value
