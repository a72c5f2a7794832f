"""Text for people: control characters as escapes, long lists cut; standard streams that are closed."""

import os
import re
import sys
from collections.abc import Sequence

# C0 and C1 controls, line and paragraph separators, and the marks that change the direction of text.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def escape_controls(text: str) -> str:
    r"""A text as one line that cannot control the terminal: \n, \x1b, \u202e, ... are shown as such.

    Names of files and classes may hold any character.
    """
    return CONTROLS.sub(lambda x: x[0].encode("unicode_escape").decode(), text)


def shorten(names: Sequence[str], most: int = 10) -> str:
    """Names for a message: the first ones, and the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def open_missing_streams() -> None:
    """Let standard streams that the caller has closed (`2>&-`) lead to the null device.

    Python leaves them out: then `print` takes stdout in place of stderr, and the next file that is opened
    gets the number of the closed one, so that messages of libraries are written into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def silence_broken_pipes() -> bool:
    """Let stdout and stderr lead to the null device where their reader is gone; returns whether one was.

    Otherwise Python would try again, and complain, when it ends.
    """
    broken = False
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            broken = True
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
    return broken
