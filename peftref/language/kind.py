"""Kinds: the shape of a value, and which implicit axes (batch, tokens) it carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from peftref.language.size import Size

Per = Literal["none", "sample", "token"]
_ORDER: dict[Per, int] = {"none": 0, "sample": 1, "token": 2}


@dataclass(frozen=True, slots=True)
class Kind:
    """Shape in the column convention, and `per`: one value in all, one per sample, or one per token.

    >>> Kind((Size.symbol("d_in"),), "token").show()
    '[d_in] per token'
    """

    dims: tuple[Size, ...]
    per: Per = "none"

    def show(self) -> str:
        """The kind in words: `[r, d_in]`, `[d_in] per token`, `a number`."""
        shape = f"[{', '.join(dim.show() for dim in self.dims)}]" if self.dims else "a number"
        return shape if self.per == "none" else f"{shape} per {self.per}"

    def evaluate(self, values: Mapping[str, int]) -> tuple[int, ...]:
        """The shape as numbers."""
        return tuple(dim.evaluate(values) for dim in self.dims)


SCALAR = Kind(())


class KindError(Exception):
    """An op cannot take these operands: a sentence, and a hint where one is known."""

    def __init__(self, text: str, hint: str | None = None, clash: tuple[Size, ...] = ()) -> None:
        super().__init__(text)
        self.hint = hint
        self.clash = clash


def widest(kinds: tuple[Kind, ...]) -> Per:
    """The implicit axes of a result: those of the operand that has most."""
    return max((kind.per for kind in kinds), key=_ORDER.__getitem__, default="none")
