"""Checkpoints of a training: written atomically, verified when they are read; the newest two are kept."""

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


def save_state(folder: Path, step: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Path:
    """Write a checkpoint, step-STEP-SHA256.safetensors, and remove all but the newest two.

    After a full disk or a kill, only a temporary file is left; the next checkpoint deletes it. The
    name of a checkpoint holds the hash of its content.

    Args:
        folder: created if needed.
        step: optimiser steps done.
        tensors: by name.
        metadata: the rest of the state, as JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    on_cpu = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
    data = save(on_cpu, metadata={"facts": json.dumps(metadata)})
    path = folder / f"step-{step:09}-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
    atomic_write(path, data)
    for old in [*partial_files(folder), *(x for _, x in list_states(folder)[KEPT:])]:
        old.unlink(missing_ok=True)
    return path


def list_states(folder: Path) -> list[tuple[int, Path]]:
    """(step, file) of the checkpoints.

    Newest first, ordered by modification time. Step numbers are not sufficient: a restarted epoch has fewer
    steps.
    """
    named = [(NAME.fullmatch(x.name), x) for x in folder.glob("step-*.safetensors")]
    states = [(int(match[1]), x) for match, x in named if match]
    return sorted(states, key=lambda x: (written_at(x[1]), x[0]), reverse=True)


def written_at(path: Path) -> int:
    """The time of the last change of a file, in ns; 0 if another process has just removed it."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def partial_files(folder: Path) -> list[Path]:
    """Partial files of killed processes. Only the process that has claimed the run folder writes here."""
    return [*folder.glob(".step-*")]


def remove_states(folder: Path) -> None:
    """Remove all checkpoints of a finished run, the oldest first."""
    for path in [*partial_files(folder), *(x for _, x in reversed(list_states(folder)))]:
        path.unlink(missing_ok=True)


def load_state(
    folder: Path, report: Callable[[str], None]
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read the newest checkpoint that is intact.

    Args:
        folder: where `save_state` wrote.
        report: called with a line for each damaged checkpoint.

    Returns:
        (tensors, metadata), or None if there is no intact checkpoint.
    """
    states = list_states(folder)
    for i, (_, path) in enumerate(states):
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            match = NAME.fullmatch(path.name)
            if match is None or not digest.startswith(match[2]):
                raise ValueError("its content does not match the hash in its name")
            with safe_open(path, "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                return tensors, json.loads(file.metadata()["facts"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            instead = "using the previous one" if i + 1 < len(states) else "there is no other"
            report(f"checkpoint {path} is damaged and ignored ({error}); {instead}")
    return None
