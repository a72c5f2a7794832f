"""Warnings of this package to its users: issuing them, and showing them as lines."""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

from videossp.errors import VideoSSPWarning


def warn(text: str) -> None:
    """Issue a `VideoSSPWarning` that points at the code that called this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] == "videossp":
        level, frame = level + 1, frame.f_back
    warnings.warn(text, VideoSSPWarning, stacklevel=level)


@contextmanager
def warning_lines(
    show: Callable[[str], None], *, known: Iterable[str] = (), others: bool = False
) -> Iterator[None]:
    """Within this context, each `VideoSSPWarning` is shown once, as one line.

    Args:
        show: prints a line.
        known: warnings that were shown before.
        others: also show warnings of other kinds, as Python does; else they are not shown.
    """
    shown = set(known)

    def show_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = " ".join(str(message).split())
        if not issubclass(category, VideoSSPWarning):
            usual(message, category, filename, lineno, file, line)
        elif text not in shown:
            shown.add(text)
            show(text)

    with warnings.catch_warnings():
        usual, warnings.showwarning = warnings.showwarning, show_warning
        if not others:
            warnings.simplefilter("ignore")
        warnings.simplefilter("always", VideoSSPWarning)
        yield
