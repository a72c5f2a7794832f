"""Output of the verbs: results on stdout, messages on stderr."""

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import Namespace

DATA, INTERRUPTED = 3, 130  # exit codes


def first_process() -> bool:
    """Whether this process prints: of several that torchrun started, only the first one does."""
    return os.environ.get("RANK", "0") == "0"


def print_result(args: "Namespace", summary: Any, lines: Sequence[str]) -> int:
    """Print a result on stdout, as text or, with --json, as JSON; returns the exit code 0."""
    if first_process():
        print(json.dumps(summary, ensure_ascii=False) if args.json else "\n".join(lines))
    return 0


def print_message(line: str) -> None:
    """Print a message on stderr."""
    if first_process():
        print(f"videossp: {line}", file=sys.stderr)


def print_error(line: str) -> None:
    """Print an error on stderr, in every process, because an error may occur in one of them only."""
    prefix = "" if first_process() else f"process {os.environ['RANK']}: "
    print(f"videossp: {prefix}{line}", file=sys.stderr)
