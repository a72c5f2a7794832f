"""Messages on a terminal: long lists cut; standard streams that are closed."""

import os
import select
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO


def shorten(names: Sequence[str], most: int = 10) -> str:
    """Names for a message: the first ones, and the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def open_missing_streams() -> None:
    """Let standard streams that the caller has closed (`2>&-`) lead to the null device.

    Python leaves them out: then `print` takes stdout in place of stderr, and the next file that is opened
    gets the number of the closed one, so that messages of libraries are written into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 - it gets the lowest free number
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def silence_closed_pipes() -> bool:
    """Let stdout and stderr lead to the null device if they are pipes whose reader is gone.

    Otherwise Python might try to write once more when it ends, and complain.

    Returns:
        Whether one of them was such a pipe.
    """
    closed = [x for x in (sys.stdout, sys.stderr) if _reader_is_gone(x)]
    for stream in closed:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    return bool(closed)


def _reader_is_gone(stream: TextIO) -> bool:
    if not hasattr(select, "poll"):  # Windows, where a pipe without a reader is another error
        return False
    with suppress(OSError, ValueError):  # no file: a program's own stream
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
    return False
