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

if TYPE_CHECKING:
    from peftref.report.table import Table

USAGE, INTERRUPTED = 2, 130
"""Exit codes: of the user's mistakes, and of an interrupt."""


def lines(texts: Iterable[str]) -> None:
    """Prints lines as they are."""
    for text in texts:
        print(text)


def as_json(value: Any) -> None:
    """Prints a value as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def rich_print(thing: Any, *, table: bool = False) -> None:
    """Prints a rich renderable; a table keeps its full width where the output is no terminal."""
    from rich.console import Console

    console = Console(soft_wrap=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=200 if table else 140)
    console.print(thing)


def print_table(table: Table, form: str = "rich") -> None:
    """Prints a table in a form: rich, md, latex, csv, json, html."""
    from peftref.report.forms import WRITERS, to_rich

    if form == "rich":
        rich_print(to_rich(table), table=True)
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
