"""`Messages`: what a training says on stderr: lines, and a bar where that is a terminal."""

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
MEASURED = 3  # steps after which the time of a run is foretold


class Messages:
    """Says nothing unless it is told to.

    Args:
        on: whether to say anything: progress is asked for, and this process is the one that speaks.
    """

    def __init__(self, on: bool) -> None:
        self.on = on
        self.console = Console(stderr=True)
        self._foretold = False

    def say(self, line: str) -> None:
        """One line."""
        if self.on:
            self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def bar(self, items: Sequence[T], title: str, first: int, total: int, every: int) -> Iterator[T]:
        """The items, with a bar that starts at `first`; once, how long `every` of them would take."""
        columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        hidden = not (self.on and self.console.is_terminal)
        with Progress(*columns, console=self.console, transient=True, disable=hidden) as shown:
            task = shown.add_task(title, total=total, completed=first)
            started = time.monotonic()
            for i, item in enumerate(items):
                if i == MEASURED + 1 and not self._foretold:  # the first step compiles kernels
                    self._foretold = True
                    seconds = (time.monotonic() - started) / MEASURED * every
                    if seconds > 60:
                        self.say(f"the training will take about {duration(seconds)}, without validation")
                yield item
                shown.advance(task)
                if i == 0:
                    started = time.monotonic()


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
