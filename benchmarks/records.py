"""The files of benchmarks/results and others like them: lists of rows, a line a row."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videossp.system.files import atomic_write

RESULTS = Path(__file__).parent / "results"


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of a list (.json) or a log (.jsonl); none if it is not there."""
    if not file.exists():
        return []
    text = file.read_text(encoding="utf-8")
    return [json.loads(x) for x in text.splitlines()] if file.suffix == ".jsonl" else json.loads(text)


def write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Replace a list."""
    atomic_write(file, "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")


def load(set_name: str) -> list[dict[str, Any]]:
    """The runs of a set that are known."""
    return read(RESULTS / f"{set_name}.json")
