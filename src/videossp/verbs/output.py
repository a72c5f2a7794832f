"""What verbs print: results on stdout, messages on stderr; the exit codes they give without an error."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import Namespace

DATA, INTERRUPTED = 3, 130


def show(args: "Namespace", summary: Any, lines: Sequence[str]) -> int:
    """Print a result on stdout, as text or as JSON."""
    print(json.dumps(summary, ensure_ascii=False) if args.json else "\n".join(lines))
    return 0


def say(line: str) -> None:
    """A message on stderr."""
    print(f"videossp: {line}", file=sys.stderr)
