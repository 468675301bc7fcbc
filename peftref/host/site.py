"""A site: one slot of the reference architecture resolved in one layer of one host. Plain immutable data, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from peftref.core.frozen_map import FrozenMap
from peftref.host.architecture import ARCHITECTURE, Form, Kind


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows of a fused projection belong to a slot.

    The fused output axis, read as an array of shape `shape`, is cut to `start:stop` on `axis`: a third of `c_attn` is
    `Rows((2304,), 0, 0, 768)`, an interleaved query of `query_key_value` is `Rows((heads, 3, d_head), 1, 0, 1)`.

    >>> Rows((2, 3, 4), 1, 0, 1).size
    8
    """

    shape: tuple[int, ...]
    axis: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many rows are selected."""
        total = 1
        for position, extent in enumerate(self.shape):
            total *= (self.stop - self.start) if position == self.axis else extent
        return total


@dataclass(frozen=True, slots=True)
class Port:
    """Where a quantity is to be had: a side of a module's call, by position in a tuple or by argument name.

    path: dotted module path. side: what goes in or what comes out. key: position in the output tuple or the positional
    arguments, or the name of a keyword argument. rows: the slice of the last axis, for fused projections.
    """

    path: str
    side: Literal["input", "output"]
    key: int | str = 0
    rows: Rows | None = None


@dataclass(frozen=True)
class Site:
    """One slot in one layer of one host.

    slot: name in the reference architecture. stack: `encoder`, `decoder`, `vision`, … layer: index in the stack, None for
    what a stack has once; for one of several convolutions of a stem, its depth. path: the module at which the site stands. sizes: every size symbol of the site as a number.
    read: where `x` (and `h`) are to be had. lacks: optional quantities that this host does not have (a bias, say).
    form: how the weight is stored. reads: an opaque key, equal for the sites that read one and the same input tensor (query, key
    and value of a layer). remade: of attention itself, which of v and o the host changes on their way from the value projection or
    to the output projection. tokens_first: whether the host holds [tokens, batch, ...] there, and not [batch, tokens, ...].
    """

    slot: str
    stack: str
    layer: int | None
    path: str
    sizes: Mapping[str, int]
    ports: Mapping[str, Port] = field(default_factory=dict)
    lacks: frozenset[str] = frozenset()
    form: Form = "matrix"
    reads: str = ""
    tokens_first: bool = False
    remade: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", FrozenMap(self.sizes))
        object.__setattr__(self, "ports", FrozenMap(self.ports))

    def __deepcopy__(self, memo: object) -> Site:
        return self

    @property
    def kind(self) -> Kind:
        """The kind of the site's slot: linear, sublayer, activation, norm, core or sequence."""
        return ARCHITECTURE.slot(self.slot).kind

    @property
    def whole(self) -> bool:
        """Whether its weight is a matrix of its own: no slice of a fused projection, no table, no convolution."""
        own = "h" not in self.ports or self.ports["h"].rows is None
        return own and self.form in ("matrix", "transposed")

    @property
    def within(self) -> bool:
        """Whether it stands within the layers of its stack, and not before or after them."""
        return self.layer is not None and ARCHITECTURE.slot(self.slot).component != "embedding"

    @property
    def name(self) -> str:
        """A readable unique name: `decoder.3.attention.query`, or `encoder.embedding` where there is no layer."""
        return ".".join([self.stack, *([] if self.layer is None else [str(self.layer)]), self.slot])

    def __hash__(self) -> int:
        return hash((self.slot, self.stack, self.layer, self.path))
