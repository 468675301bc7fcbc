"""What other libraries print is kept off the terminal; what peftref says still reaches it."""

from __future__ import annotations

import faulthandler
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO

_TAIL = 20_000
"""Characters of other libraries' output that are shown after all, where a command ends in an error that is not the user's."""

_ours: list[TextIO] = []


def error_stream() -> TextIO:
    """The error stream for what peftref itself says: the user's, also while other libraries are kept off it.

    >>> error_stream() is sys.stderr
    True
    """
    return _ours[-1] if _ours else sys.stderr


@contextmanager
def only_ours() -> Iterator[TextIO]:
    """While it lasts, nothing but what is written to `error_stream()` reaches the error stream; gives that stream.

    Standard error is turned to a temporary file as a file descriptor too, so that libraries in C and processes started from here
    are silent as well. Where an exception leaves the block, the last of what was kept back is printed before it. With
    `PEFTREF_DEBUG=1` nothing is kept back.
    """
    if os.environ.get("PEFTREF_DEBUG", "0") not in ("", "0"):
        yield sys.stderr
        return
    with ExitStack() as undo:
        kept = undo.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace", buffering=1))
        users = sys.stderr
        ours = undo.enter_context(_turned_away(kept)) if _is_descriptor_2(users) else users
        others = _Others(kept)
        undo.callback(others.release)
        undo.enter_context(_warnings_of_ours(ours))
        _ours.append(ours)
        undo.callback(_ours.pop)
        sys.stderr = others
        undo.callback(setattr, sys, "stderr", users)
        try:
            yield ours
        except Exception:
            kept.seek(0)
            ours.write(kept.read()[-_TAIL:])
            ours.flush()
            raise


class _Others(io.TextIOBase):
    """A stand-in for `sys.stderr` that other libraries may keep: afterwards it leads to what `sys.stderr` is then."""

    def __init__(self, kept: TextIO) -> None:
        self._kept: TextIO | None = kept

    def release(self) -> None:
        self._kept = None

    def write(self, text: str) -> int:
        target = self._kept if self._kept is not None else sys.stderr
        return target.write(text)

    def flush(self) -> None:
        target = self._kept if self._kept is not None else sys.stderr
        target.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def isatty(self) -> bool:
        return False


def _is_descriptor_2(stream: Any) -> bool:
    try:
        return bool(stream.fileno() == 2)
    except (AttributeError, OSError, ValueError):
        return False


@contextmanager
def _turned_away(kept: TextIO) -> Iterator[TextIO]:
    """File descriptor 2 leads to a file; gives a stream to where it led before."""
    sys.stderr.flush()
    before = os.dup(2)
    os.dup2(kept.fileno(), 2)
    stream = open(before, "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors, buffering=1)  # noqa: SIM115
    crashes = not faulthandler.is_enabled()
    if crashes:
        faulthandler.enable(stream)
    try:
        yield stream
    finally:
        if crashes:
            faulthandler.disable()
        stream.flush()
        os.dup2(before, 2)
        stream.close()


@contextmanager
def _warnings_of_ours(stream: TextIO) -> Iterator[None]:
    """Warnings of peftref are printed as its errors are; those of others are kept back."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if category.__module__.partition(".")[0] == "peftref":
                print(f"warning: {message}", file=stream)
            else:
                shown(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


@contextmanager
def silent() -> Iterator[None]:
    """Keep transformers' progress bars and reports off the terminal, and leave its settings as they were."""
    from transformers.utils import logging as reports

    verbosity, bars = reports.get_verbosity(), reports.is_progress_bar_enabled()
    reports.set_verbosity(logging.CRITICAL)
    reports.disable_progress_bar()
    try:
        yield
    finally:
        reports.set_verbosity(verbosity)
        if bars:
            reports.enable_progress_bar()
