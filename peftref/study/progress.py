"""What a long job shows while it runs, on the error stream: bars on a terminal, elsewhere one line for each finished run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TextIO

from peftref.core.quiet import error_stream


class Progress:
    """Progress of a study that shows nothing; what shows something says how for each of these."""

    def start(self, steps: int, title: str) -> None:
        """The whole study begins, of so many steps."""

    def skip(self, steps: int) -> None:
        """Steps of the whole need not be done (again)."""

    def more(self, steps: int) -> None:
        """The whole has more steps, which nobody could foresee."""

    def run(self, title: str, steps: int) -> AbstractContextManager[Callable[[int], None]]:
        """Around one run; gives what is called with the number of steps done."""
        return _nothing(lambda done: None)

    def task(self, title: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """Around something before the study; gives what is called with the steps done and their number."""
        return _nothing(lambda done, total: None)


@contextmanager
def _nothing(tick: Any) -> Iterator[Any]:
    yield tick


class Bars(Progress):
    """One bar for the whole and one for the current run, by rich."""

    def __init__(self, display: Any) -> None:
        self.display = display
        self.whole: Any = None
        self.steps = 0

    def start(self, steps: int, title: str) -> None:
        self.steps = steps
        self.whole = self.display.add_task(title, total=steps)

    def skip(self, steps: int) -> None:
        self.display.advance(self.whole, steps)

    def more(self, steps: int) -> None:
        self.steps += steps
        self.display.update(self.whole, total=self.steps)

    @contextmanager
    def run(self, title: str, steps: int) -> Iterator[Callable[[int], None]]:
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
        task = self.display.add_task(title, total=None)
        try:
            yield lambda done, total: self.display.update(task, completed=done, total=total)
        finally:
            self.display.remove_task(task)


class Lines(Progress):
    """A line when the study begins and one for each finished run, with the time that is left."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream = stream
        self.clock = clock
        self.steps = self.done = self.worked = 0
        self.busy = 0.0

    def start(self, steps: int, title: str) -> None:
        self.steps = steps
        self._say(title)

    def skip(self, steps: int) -> None:
        self.done += steps

    def more(self, steps: int) -> None:
        self.steps += steps

    @contextmanager
    def run(self, title: str, steps: int) -> Iterator[Callable[[int], None]]:
        begun = self.clock()
        yield lambda done: None
        took = self.clock() - begun
        self.done += steps
        self.worked += steps
        self.busy += took
        left = self.busy / self.worked * max(0, self.steps - self.done) if self.worked else 0.0
        share = self.done / self.steps if self.steps else 1.0
        self._say(f"{share:4.0%}  {title}: {duration(took)}; {duration(left)} left")

    @contextmanager
    def task(self, title: str) -> Iterator[Callable[[int, int], None]]:
        self._say(title)
        yield lambda done, total: None

    def _say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)


def duration(seconds: float) -> str:
    """A time for readers, in its two largest units.

    >>> duration(4.2), duration(250), duration(7_260)
    ('4 s', '4 min 10 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def progress(show: bool) -> Iterator[Progress]:
    """A display on the error stream: bars on a terminal, lines elsewhere; or none."""
    stream = error_stream()
    if not show:
        yield Progress()
        return
    if not stream.isatty():
        yield Lines(stream)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Display(*columns, console=Console(file=stream), transient=True) as display:
        yield Bars(display)
