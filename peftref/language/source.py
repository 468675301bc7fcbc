"""What the torch source of a call is written from. A value per token is a tensor [batch, tokens, *shape] there, one per sample
[batch, 1, *shape], any other [*shape]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from peftref.language.kind import Kind


@dataclass(frozen=True, slots=True)
class Source:
    """The operands of a call as torch source, and what is known of them.

    args: the source of each operand, a pattern as its text. kinds: of the operands without patterns; result: of the call. options:
    the sizes given by name; sizes: every size and whole setting.
    """

    args: tuple[str, ...]
    kinds: tuple[Kind, ...]
    result: Kind
    options: Mapping[str, int]
    sizes: Mapping[str, int]


def atom(source: str) -> str:
    """The source in parentheses where an operator may follow it.

    >>> atom("self.A"), atom("a + b"), atom("f(a, b).g(c)")
    ('self.A', '(a + b)', 'f(a, b).g(c)')
    """
    plain = source.replace(".", "").replace("_", "").isalnum()
    return source if plain or _closed(source) else f"({source})"


def _closed(source: str) -> bool:
    """Whether a source is one call or one parenthesised group: `f(a, b)`, `(a + b)`, `f(a).g(b)`."""
    depth = 0
    for position, letter in enumerate(source):
        depth += (letter in "([") - (letter in ")]")
        if depth == 0 and letter == " ":
            return False
        if depth == 0 and letter == "-" and position == 0:
            return False
    return True
