"""Problems with what a user wrote: structured first, rendered second, all of them at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a text a problem is: the source's name, line and column (both from 1), and the line itself.

    >>> Place("mine.yaml", 3, 7, 1, "  r: -1").caret()
    '      ^'
    """

    source: str
    line: int
    column: int
    length: int = 1
    text: str = ""

    def caret(self) -> str:
        """The line that points at this place."""
        return " " * (self.column - 1) + "^" * max(1, self.length)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: a stable code, a sentence in the user's words, the place, notes and a hint."""

    code: str
    text: str
    place: Place | None = None
    notes: tuple[str, ...] = ()
    hint: str | None = None

    def render(self) -> str:
        """The problem as plain text, with the line it stands on and a caret where a place is known."""
        where = f"{self.place.source}:{self.place.line}:{self.place.column}: " if self.place else ""
        lines = [f"{where}{self.text} [{self.code}]"]
        if self.place and self.place.text:
            number = str(self.place.line)
            lines.append(f"  {number} | {self.place.text}")
            lines.append(f"  {' ' * len(number)} | {self.place.caret()}")
        lines += [f"  {note}" for note in self.notes]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class PeftrefError(Exception):
    """What the user can mend: carries every problem found, and prints them all.

    >>> print(PeftrefError([Problem("unknown-technique", "there is no technique 'lorra'", hint="did you mean lora?")]))
    there is no technique 'lorra' [unknown-technique]
      hint: did you mean lora?
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(problem.render() for problem in self.problems))


def in_order(problem: Problem) -> tuple[int, int]:
    """What problems are sorted by: line and column."""
    return (problem.place.line, problem.place.column) if problem.place else (0, 0)


def fail(
    code: str, text: str, *, place: Place | None = None, notes: Iterable[str] = (), hint: str | None = None
) -> PeftrefError:
    """An error with a single problem, ready to be raised.

    >>> raise fail("no-layers", "the host has no layers")
    Traceback (most recent call last):
    ...
    peftref.core.problem.PeftrefError: the host has no layers [no-layers]
    """
    return PeftrefError([Problem(code, text, place, tuple(notes), hint)])


def nearest(word: str, known: Iterable[str]) -> str | None:
    """A hint that names at most two close matches of a word, or None.

    >>> nearest("atention.query", ["attention.query", "ffn.up"])
    'did you mean attention.query?'
    """
    close = difflib.get_close_matches(word, sorted(set(known)), n=2, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else None
