"""How commands print, and how they fail."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from peftref.core.problem import PeftrefError
from peftref.core.quiet import error_stream
from peftref.report.fit import wrap

if TYPE_CHECKING:
    from peftref.report.table import Table

USAGE, INTERRUPTED = 2, 130
"""Exit codes: of the user's mistakes, and of an interrupt."""


WIDE = 200
"""Columns of an output that is no terminal and says nothing of its width."""


def lines(texts: Iterable[str]) -> None:
    """Prints lines; on a terminal, those that are wider than it go on in the next line, a little further in."""
    width = _width()
    for text in texts:
        indent = " " * (len(text) - len(text.lstrip()) + 2)
        print("\n".join(wrap(text, width, indent)) if width else text)


def _width() -> int | None:
    """The columns of the terminal; None where there is none and none are told."""
    from shutil import get_terminal_size

    return get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else None


def as_json(value: Any) -> None:
    """Prints a value as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def rich_print(thing: Any) -> None:
    """Prints a rich renderable at the width that there is."""
    from rich.console import Console

    Console(width=_width() or WIDE, soft_wrap=False).print(thing)


def print_table(table: Table, form: str = "rich") -> None:
    """Prints a table in a form: rich, md, latex, csv, json, html."""
    from peftref.report.forms import WRITERS
    from peftref.report.terminal import to_rich

    if form == "rich":
        rich_print(to_rich(table, _width() or WIDE))
        lines(table.notes)
    else:
        print(WRITERS[form](table), end="")


def failed(error: Exception) -> int:
    """Tells an error, and gives the exit code: the user's mistakes without a traceback, all else with one."""
    if isinstance(error, PeftrefError):
        print(error, file=error_stream())
        return USAGE
    if isinstance(error, BrokenPipeError):
        return 0
    shows = getattr(error, "show", None)
    if callable(shows) and hasattr(error, "exit_code"):
        shows(file=error_stream())
        return int(error.exit_code)
    if type(error).__name__ == "Abort":
        return INTERRUPTED
    if type(error).__name__ == "Exit":
        return int(getattr(error, "exit_code", 0))
    raise error


@contextmanager
def interruptible() -> Iterator[None]:
    """Around a long job: an interrupt ends it with what the job says about its output, and no traceback."""
    try:
        yield
    except KeyboardInterrupt as cause:
        print("\n".join(["", "interrupted", *map(str, cause.args)]), file=error_stream())
        raise typer.Exit(INTERRUPTED) from None


def quiet_pipe(code: int) -> int:
    """Flushes what was printed; a reader that went away is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
