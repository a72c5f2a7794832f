"""Output of the verbs: results on stdout, messages on stderr."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from videossp.system.printable import printable

if TYPE_CHECKING:
    from jsonargparse import Namespace

DATA, INTERRUPTED, BROKEN_PIPE = 3, 130, 141  # exit codes; 128 + SIGPIPE, as a shell shows it


def first_process() -> bool:
    """Whether this process prints: of several that torchrun started, only the first one does."""
    return os.environ.get("RANK", "0") == "0"


def print_result(args: "Namespace", summary: Any, lines: Sequence[str]) -> int:
    """Print a result on stdout, as text or, with --json, as JSON; returns the exit code 0."""
    if args.json:
        if first_process():
            print(json.dumps(summary, ensure_ascii=False), flush=True)
    else:
        print_lines(lines)
    return 0


def print_lines(lines: Iterable[str]) -> None:
    """Print lines of a result on stdout, at once also into a pipe."""
    if first_process():
        print("\n".join(map(printable, lines)), flush=True)


def print_row(row: Any) -> None:
    """Print a row of a result on stdout as a line of JSON, at once also into a pipe."""
    if first_process():
        print(json.dumps(row, ensure_ascii=False), flush=True)


def print_message(line: str) -> None:
    """Print a message on stderr."""
    if first_process():
        print(f"videossp: {printable(line)}", file=sys.stderr)


def print_error(*lines: str) -> None:
    """Print an error on stderr, in every process, because an error may occur in one of them only."""
    prefix = "" if first_process() else f"process {os.environ['RANK']}: "
    text = "\n".join(map(printable, lines))
    print(f"videossp: {prefix}{text}", file=sys.stderr)
