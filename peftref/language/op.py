"""An op of the equation language: all that the checker, the analyses, the emitter, the oracle and the documents ask about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from peftref.language.kind import Kind
from peftref.language.source import Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Family = Literal[
    "arithmetic", "activation", "contraction", "structure", "reduction", "normalisation", "orthogonal", "token", "flow"
]
Shape = tuple[int, ...]
Axis = tuple[int, ...]
"""The indices that one axis of a value stands for in a contraction: several where the axis is cut."""

FIRST, BOTH = frozenset({0}), frozenset({0, 1})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Op:
    """An op, in one value. Only the first block and a `torch` or a `function` must be given; operands are counted from 0.

    Its signature. name: as called; symbol: as written infix or behind. arity: least and most operands. options: sizes given by
    name, with their defaults; None must be given. setting: the setting that stands for the last operand where that is left out.
    pattern: its first operand is a text, and options are the sizes of the axes in it. literals: operands that are written out as
    whole numbers. leaves: operands that are leaves as they stand. positions: operands that hold positions in another one.

    Its shape. rule: the kinds of the operands (a pattern as a text, a literal as a number), and options as sizes by name, to the
    kind of the result; raises KindError where it cannot take them.

    Its meaning in torch, in torch's row layout. torch: source of the result with holes: {0}, {1} … and {operands} for operands,
    {axes} for the number of axes of the first one, {NAME} for an option, {read} where it reads other tokens (it tells several
    such readings in one equation apart); or what writes the source. `self.training` and `self.context` can be read there. Without
    it, a call of `function`, which the source knows as `op.NAME`: a function of torch tensors that imports torch when it runs.

    Its meaning in numpy, from which nothing in torch may be taken: oracle: source with holes for operands and options, or a
    function, of one token's arrays in the column convention, in double precision. mixes: its result for one token reads other
    tokens; the oracle is then told all at once, [batch, tokens, *shape], with the kinds of the operands and whether the stack is causal.

    Its algebra. linear: operands in which it is linear, each by itself. additive: linear in all operands together. vanishes:
    operands that, when zero, make the result zero. zero: what it is where its operand is zero, if that is one or the identity
    matrix; identity: it is the identity matrix where all operands are; opaque: no law says what it makes of first values.
    elementwise: acts on each number by itself. contraction: the axes of the result from those of the operands, where it is a
    tensor network; its first argument makes two axes one. columns: acts along the first axis of its first operand, whatever
    further axes there are. lengthens: the result has more tokens. passes: outside training it gives its first operand. random:
    it draws numbers while training. still: operands that get no gradient. aside: operands that are not computed with the value:
    functions of the gradient of the first.

    Its cost. flops: floating-point operations of one result (a multiply and an add count one each; elementwise work is not
    counted, as in torch's own counter) from the shapes of operands and result, and how many tokens a sequence has; what is
    not per token has an axis more where it is rows. backward: those of its gradient, from the forward ones and the operands that
    need one; without it, as many for each. view: nothing is written. costly: worth making once where the operands stay.

    For readers. about and example: for the reference page; the example is run through every stage. latex: the notation, with the
    holes of `torch`, from which MathML is made too.
    """

    name: str
    family: Family
    about: str
    example: str
    arity: tuple[int, int]
    rule: Callable[..., Kind]
    symbol: str | None = None
    options: Mapping[str, int | None] = field(default_factory=dict)
    setting: str | None = None
    pattern: bool = False
    literals: frozenset[int] = frozenset()
    leaves: frozenset[int] = frozenset()
    positions: frozenset[int] = frozenset()
    torch: str | Callable[[Source], str] = ""
    function: Callable[..., Any] | None = None
    oracle: str | Callable[..., Any]
    mixes: bool = False
    linear: frozenset[int] = frozenset()
    additive: bool = False
    vanishes: frozenset[int] = frozenset()
    zero: Literal["one", "identity"] | None = None
    identity: bool = False
    opaque: bool = False
    elementwise: bool = False
    contraction: Callable[..., tuple[Axis, ...]] | None = None
    columns: bool = False
    lengthens: bool = False
    passes: bool = False
    random: bool = False
    still: frozenset[int] = frozenset()
    aside: frozenset[int] = frozenset()
    flops: Callable[[tuple[Shape, ...], Shape, int], int] | None = None
    backward: Callable[[int, frozenset[int]], int] | None = None
    view: bool = False
    costly: bool = False
    latex: str | None = None

    @property
    def source(self) -> str | Callable[[Source], str]:
        """The torch source with its holes: as given, or a call of its function.

        >>> from peftref.language.ops import TABLE
        >>> TABLE["skew"].source, TABLE["relu"].source
        ('op.skew({operands}, n={n})', 'F.relu({0})')
        """
        named = "".join(f", {name}={{{name}}}" for name in self.options)
        return self.torch or f"op.{self.name}({{operands}}{named})"
