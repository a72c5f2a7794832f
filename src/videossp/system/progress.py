"""`Messages`: the lines and the progress bar of a training, on stderr; `with_bar`: a bar for other work."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from videossp.system.printable import printable

T = TypeVar("T")
MEASURED = 3  # steps that are timed for the estimate of the training time


class ErrorConsole(Console):
    """Prints on stderr. If its reader is gone, the BrokenPipeError reaches the caller."""

    def __init__(self) -> None:
        super().__init__(stderr=True)

    def on_broken_pipe(self) -> None:
        """Called while a BrokenPipeError is handled."""
        raise


class Messages:
    """Print progress to stderr, or nothing.

    Args:
        on: whether to print: progress is enabled and this is the main process.
    """

    def __init__(self, on: bool) -> None:
        self.on = on
        self.console = ErrorConsole()
        self._estimated = False

    def say(self, line: str) -> None:
        """Print one line."""
        if self.on:
            text = printable(line)
            self.console.print(text, highlight=False, soft_wrap=True, markup=False, emoji=False)

    def bar(self, items: Sequence[T], title: str, first: int, total: int, remaining: int) -> Iterator[T]:
        """Yield the items and show a progress bar if stderr is a terminal.

        The first call that has yielded enough items to measure also prints an estimate of the training time,
        if that is more than a minute.

        Args:
            items: one for each step.
            title: text before the bar.
            first: where the bar starts: steps that were done before an interruption.
            total: where the bar ends.
            remaining: steps that the training has left, for the estimate; 0: the items are no training
                steps.
        """
        hidden = not (self.on and self.console.is_terminal)
        bar = Progress(*columns(title), console=self.console, transient=True, disable=hidden)
        with nullcontext() if hidden else bar:  # rich before 14.3 ends a disabled bar with an empty line
            task = bar.add_task(title, total=total, completed=first)
            started = time.monotonic()
            for i, item in enumerate(items):
                # The first step, which compiles, is not timed.
                if i == MEASURED + 1 and remaining and not self._estimated:
                    self._estimated = True
                    seconds = (time.monotonic() - started) / MEASURED * remaining
                    if seconds > 60:
                        self.say(f"the training will take about {duration(seconds)}, without validation")
                yield item
                bar.advance(task)
                if i == 0:
                    started = time.monotonic()


class RateColumn(ProgressColumn):
    """Items per second over the last half minute."""

    def render(self, task: Task) -> Text:
        """The text of the column."""
        return Text("" if task.speed is None else f"{task.speed:.1f}/s")


def columns(title: str) -> tuple[ProgressColumn, ...]:
    """Title, bar, number of items and remaining time."""
    return TextColumn(title, markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()


def with_bar(items: Iterable[T], title: str, total: int) -> Iterator[T]:
    """Yield the items, and show a progress bar with rate and remaining time if stderr is a terminal.

    If stdout is a terminal, too, there is no bar between two items: the caller may print there.

    Args:
        items: computed one by one.
        title: text before the bar.
        total: number of the items.
    """
    console = ErrorConsole()
    if not console.is_terminal:
        yield from items
        return
    # With stdout redirected, rich would print the lines of stdout on stderr.
    shown = (*columns(title), RateColumn())
    bar = Progress(*shown, console=console, transient=True, redirect_stdout=False)
    task, rest = bar.add_task(title, total=total), iter(items)
    with nullcontext() if sys.stdout.isatty() else bar:
        while True:
            try:
                with bar if sys.stdout.isatty() else nullcontext():  # starting it takes milliseconds
                    item = next(rest)
            except StopIteration:
                return
            yield item
            bar.advance(task)


@contextmanager
def work_bar(title: str, total: int, on: bool = True) -> Iterator[Callable[[int], object]]:
    """A bar on stderr, if that is a terminal, for work that reports its progress.

    Args:
        title: text before the bar.
        total: units of work.
        on: whether to show it.

    Yields:
        A function to be called with the number of units that are done since its last call.
    """
    console = ErrorConsole()
    if not (on and console.is_terminal):
        yield lambda _: None
        return
    bar = Progress(*columns(title), console=console, transient=True, redirect_stdout=False)
    with bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)


def duration(seconds: float) -> str:
    """Format seconds in the unit that fits: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
