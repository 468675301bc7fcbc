"""A contraction as torch source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peftref.language.einsum import Pattern, along_axis
from peftref.modules.compile.atom import atom

SMALL = 16
"""Entries of stacked matrices up to which their products are written out, entry by entry."""


def contraction(pattern: Pattern, operands: Sequence[tuple[str, bool]], lead: bool, sizes: Mapping[str, int]) -> str:
    """The source of a contraction.

    operands: the source of each, and whether it has axes of samples and tokens in front; lead: whether the result has. sizes: of
    the indices. An axis of several indices is taken apart before, and put together after.

    >>> from peftref.language.einsum import parse_pattern
    >>> contraction(parse_pattern("e r o, r -> e o"), [("self.B", False), ("z", True)], True, {"e": 9, "r": 8, "o": 64})
    'torch.einsum("abc, ...b -> ...ac", self.B, z)'
    """
    letters = {name: chr(97 + i) for i, name in enumerate(pattern.indices())}
    words, sources = [], []
    for (source, leads), axes in zip(operands, pattern.operands, strict=True):
        words.append(("..." if leads else "") + "".join(letters[name] for axis in axes for name in axis))
        for back, axis in enumerate(reversed(axes)):
            if len(axis) > 1:
                cut = ", ".join(str(sizes[name]) for name in axis)
                after = sum(len(later) for later in axes[len(axes) - back :])
                source = f"{atom(source)}.unflatten(-{after + 1}, ({cut}))"
        sources.append(source)
    out = ("..." if lead else "") + "".join(letters[name] for axis in pattern.result for name in axis)
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
    found = along_axis(m, x.removeprefix("..."), out.removeprefix("..."))
    if found is None or sizes[m[found[0][0]]] * sizes[m[found[0][1]]] > SMALL:
        return None
    order, at = found
    turned = matrices if order == tuple(range(len(order))) else f"{atom(matrices)}.permute{order}"
    return f"op.unrolled({turned}, {value}, {at})"
