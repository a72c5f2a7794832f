"""Checkpoints of a training: written whole, verified when they are read, the newest two kept."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from videossp.system.files import atomic_write

KEPT = 2
NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.safetensors")


def save_state(folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
    """Write a checkpoint, step-STEP-SHA256.safetensors, and remove all but the newest two.

    It appears whole, under a name that holds its own hash, or not at all: what a full disk or a killed
    process leaves is a file of another name, which the next checkpoint removes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
    data = save(whole, metadata={"facts": json.dumps(facts)})
    path = folder / f"step-{step:09}-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
    atomic_write(path, data)
    for old in [*found_parts(folder), *(x for _, x in found_states(folder)[KEPT:])]:
        old.unlink(missing_ok=True)
    return path


def found_states(folder: Path) -> list[tuple[int, Path]]:
    """(step, file) of the checkpoints of a folder, newest first; one tried again has fewer steps."""
    named = [(NAME.fullmatch(x.name), x) for x in folder.glob("step-*.safetensors")]
    found = [(int(m[1]), x) for m, x in named if m]
    return sorted(found, key=lambda x: (written_at(x[1]), x[0]), reverse=True)


def written_at(path: Path) -> int:
    """When a file was written, in ns; 0 if another process has just removed it."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def found_parts(folder: Path) -> list[Path]:
    """What killed processes have left half written; only the one that holds the run folder writes here."""
    return [*folder.glob(".step-*")]


def remove_states(folder: Path) -> None:
    """Remove all checkpoints, the oldest first: the run has come to its end."""
    for path in [*found_parts(folder), *(x for _, x in reversed(found_states(folder)))]:
        path.unlink(missing_ok=True)


def load_state(folder: Path, say: Callable[[str], None]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """(tensors, facts) of the newest checkpoint that is whole, if there is one; damaged ones are said."""
    for _, path in found_states(folder):
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            match = NAME.fullmatch(path.name)
            if match is None or not digest.startswith(match[2]):
                raise ValueError("its content is not what was written")
            with safe_open(path, "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                return tensors, json.loads(file.metadata()["facts"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            say(f"{path}: damaged, left out: {error}")
    return None
