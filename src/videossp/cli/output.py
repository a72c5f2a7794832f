"""What verbs print: results on stdout, messages on stderr; the exit codes they give without an error."""

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import Namespace

DATA, INTERRUPTED = 3, 130


def first_process() -> bool:
    """Whether this process speaks, of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def show(args: "Namespace", summary: Any, lines: Sequence[str]) -> int:
    """Print a result on stdout, as text or as JSON; of several processes the first does."""
    if first_process():
        print(json.dumps(summary, ensure_ascii=False) if args.json else "\n".join(lines))
    return 0


def say(line: str) -> None:
    """A message on stderr."""
    if not first_process():
        return
    print(f"videossp: {line}", file=sys.stderr)
