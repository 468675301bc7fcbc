"""einsum: a contraction with named axes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from peftref.language import einsum
from peftref.language.kind import Kind, KindError
from peftref.language.op import Op
from peftref.language.size import Size
from peftref.language.source import Source, atom

if TYPE_CHECKING:
    from collections.abc import Mapping

    from peftref.language.op import Array

SMALL = 16
"""Entries of stacked matrices up to which their products are written out, entry by entry."""


def rule(pattern: str | Kind, *kinds: Kind, **sizes: Size) -> Kind:
    """What the pattern says behind its arrow."""
    if not isinstance(pattern, str):
        raise KindError('the first operand of einsum is a pattern in quotes: "a b, b -> a"')
    return einsum.rule(einsum.parse_pattern(pattern), kinds, sizes)


def source(call: Source) -> str:
    """The source of a contraction. An axis of several indices is taken apart before, and put together after.

    >>> r, o, token = Size.symbol("r"), Size.symbol("o"), Kind((Size.symbol("r"),), "token")
    >>> args, kinds = ("e r o, r -> e o", "self.B", "z"), (Kind((Size.of(9), r, o)), token)
    >>> source(Source(args, kinds, Kind((Size.of(9), o), "token"), {}, {"r": 8, "o": 64}))
    'torch.einsum("abc, ...b -> ...ac", self.B, z)'
    """
    pattern = einsum.parse_pattern(call.args[0])
    given = {name: Size.of(number) for name, number in call.options.items()}
    shapes = tuple(Kind(tuple(Size.of(extent) for extent in kind.evaluate(call.sizes))) for kind in call.kinds)
    sizes = {name: size.evaluate({}) for name, size in einsum.bind(pattern, shapes, given).items()}
    letters = {name: chr(97 + i) for i, name in enumerate(pattern.indices())}
    words, sources = [], []
    for text, kind, axes in zip(call.args[1:], call.kinds, pattern.operands, strict=True):
        words.append(("..." if kind.per != "none" else "") + "".join(letters[name] for axis in axes for name in axis))
        for back, axis in enumerate(reversed(axes)):
            if len(axis) > 1:
                cut = ", ".join(str(sizes[name]) for name in axis)
                after = sum(len(later) for later in axes[len(axes) - back :])
                text = f"{atom(text)}.unflatten(-{after + 1}, ({cut}))"
        sources.append(text)
    out = ("..." if call.result.per != "none" else "") + "".join(
        letters[name] for axis in pattern.result for name in axis
    )
    made = _unrolled(words, out, sources, {letters[name]: size for name, size in sizes.items()})
    made = made or f'torch.einsum("{", ".join(words)} -> {out}", {", ".join(sources)})'
    for back, axis in enumerate(reversed(pattern.result)):
        if len(axis) > 1:
            made += f".flatten(-{back + len(axis)}, -{back + 1})"
    return made


def _unrolled(words: list[str], out: str, sources: list[str], sizes: Mapping[str, int]) -> str | None:
    """Stacked matrices of a few entries applied along one axis of a value per token; None where a contraction is no such thing."""
    lead = [word.startswith("...") for word in words]
    if sorted(lead) != [False, True]:
        return None
    (m, matrices), (x, value) = ((words[lead.index(one)], sources[lead.index(one)]) for one in (False, True))
    found = einsum.along_axis(m, x.removeprefix("..."), out.removeprefix("..."))
    if found is None or sizes[m[found[0][0]]] * sizes[m[found[0][1]]] > SMALL:
        return None
    order, at = found
    turned = matrices if order == tuple(range(len(order))) else f"{atom(matrices)}.permute{order}"
    return f"op.unrolled({turned}, {value}, {at})"


def _oracle(text: str, *operands: Array, **given: int) -> Array:
    """Groups of axes are cut by the sizes of single ones; then numpy's own einsum; then the result is grouped."""
    import numpy as np

    pattern, sizes = einsum.parse_pattern(text), dict(given)
    for axes, value in zip(pattern.operands, operands, strict=True):
        for axis, extent in zip(axes, value.shape, strict=True):
            if len(axis) == 1:
                sizes[axis[0]] = extent
    for axes, value in zip(pattern.operands, operands, strict=True):
        for axis, extent in zip(axes, value.shape, strict=True):
            missing = [name for name in axis if name not in sizes]
            if missing:
                known = math.prod(sizes[name] for name in axis if name in sizes)
                sizes[missing[0]] = extent // known
    cut = [
        value.reshape([sizes[name] for axis in axes for name in axis])
        for axes, value in zip(pattern.operands, operands, strict=True)
    ]
    letters = {name: chr(97 + i) for i, name in enumerate(pattern.indices())}
    words = ["".join(letters[name] for axis in axes for name in axis) for axes in (*pattern.operands, pattern.result)]
    result = np.einsum(",".join(words[:-1]) + "->" + words[-1], *cut)
    return np.asarray(result).reshape([math.prod(sizes[name] for name in axis) for axis in pattern.result])


OPS = (
    Op(
        name="einsum", family="contraction", about="contraction with named axes; (a c) groups axes",
        example='einsum("o r, r -> o", B, A @ x)', arity=(2, 9), rule=rule, pattern=True, torch=source, oracle=_oracle,
        linear=frozenset(range(8)), vanishes=frozenset(range(8)), costly=True,
    ),
)  # fmt: skip
