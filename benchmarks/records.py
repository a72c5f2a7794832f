"""Read and write results files: lists of rows, one row per line, as in benchmarks/results."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videossp.system.files import atomic_write

RESULTS = Path(__file__).parent / "results"


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of a list (.json) or a log (.jsonl); empty if the file does not exist."""
    if not file.exists():
        return []
    text = file.read_text(encoding="utf-8")
    return [json.loads(x) for x in text.splitlines()] if file.suffix == ".jsonl" else json.loads(text)


def write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a list (.json), atomically."""
    atomic_write(file, "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")


def load(set_name: str) -> list[dict[str, Any]]:
    """The recorded runs of a set."""
    return read(RESULTS / f"{set_name}.json")


def load_search(set_name: str) -> list[dict[str, Any]]:
    """The recorded runs among which validation chooses the rates of a set's rows.

    On a set of the first round those of this round, on a fold of real footage those of fold 0, else those of
    the first and the design round.
    """
    folder, _, kind = set_name.rpartition("/")
    if folder == "real":
        return load(f"real/{kind[:-1]}0")
    return load(kind) + load(f"design/{kind}") if folder else load(kind)
