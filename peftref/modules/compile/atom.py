"""Sources that an operator may follow."""

from __future__ import annotations


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
