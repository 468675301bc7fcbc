"""What a long job shows while it runs: one bar for the whole of it, one for the current run; on the terminal's error stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Progress:
    """Progress of a study; draws nothing where there is no display."""

    def __init__(self, display: Any = None) -> None:
        self.display = display
        self.whole: Any = None
        self.steps = 0

    def start(self, steps: int, title: str) -> None:
        """Opens the bar of the whole study."""
        self.steps = steps
        if self.display is not None:
            self.whole = self.display.add_task(title, total=steps)

    def skip(self, steps: int) -> None:
        """Moves the bar of the whole over steps that need not be done (again)."""
        if self.display is not None:
            self.display.advance(self.whole, steps)

    def more(self, steps: int) -> None:
        """Makes the bar of the whole longer by steps that nobody could foresee."""
        self.steps += steps
        if self.display is not None:
            self.display.update(self.whole, total=self.steps)

    @contextmanager
    def run(self, title: str, steps: int) -> Iterator[Callable[[int], None]]:
        """The bar of one run; gives what is called with the number of steps done."""
        if self.display is None:
            yield lambda done: None
            return
        task, last = self.display.add_task(title, total=steps), 0

        def tick(done: int) -> None:
            nonlocal last
            self.display.update(task, completed=done)
            self.display.advance(self.whole, done - last)
            last = done

        try:
            yield tick
            self.display.advance(self.whole, steps - last)
        finally:
            self.display.remove_task(task)

    @contextmanager
    def task(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """The bar of something before the study; gives what is called with the steps done and their number."""
        if self.display is None:
            yield lambda done, total: None
            return
        task = self.display.add_task(title, total=None)
        try:
            yield lambda done, total: self.display.update(task, completed=done, total=total)
        finally:
            self.display.remove_task(task)


@contextmanager
def progress(show: bool) -> Iterator[Progress]:
    """A progress display on the error stream, or none."""
    if not show:
        yield Progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Display(*columns, console=console, transient=True) as display:
        yield Progress(display)
