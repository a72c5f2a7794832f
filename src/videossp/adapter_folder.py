"""The adapter folder: adapter_config.json, adapter_model.safetensors and a model card, README.md."""

import hashlib
import json
import os
import threading
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from videossp.errors import VideoSSPWarning, WeightsError
from videossp.model.published import first_line
from videossp.model.weights_file import foreign_format
from videossp.system.printable import printable

CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"
# A config without `format` has format 1: missing options there have their published values.
FORMAT = 2
DIGEST = "tensors_sha256"
ABANDONED = 600  # seconds without a change after which a temporary file counts as abandoned


def write_adapter(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write the folder so that a reader gets the old adapter or the new one, never parts of both.

    All new files are written under temporary names first, so a full disk changes nothing. Then the tensors
    are replaced, and after them the config. Between the two, `read_adapter` finds the new config by its
    temporary name, which contains the hash of the new tensors.

    At the end, temporary files of killed writers are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {"format": FORMAT, **config, DIGEST: digest(tensors)}
    contents = {
        WEIGHTS: save(dict(tensors), metadata={"format": "pt"}),
        # Names of folders that are no UTF-8 have halves of surrogate pairs. As \udcff they are JSON too.
        CONFIG: (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace"),
        CARD: card(config, sum(x.numel() for x in tensors.values())).encode(errors="backslashreplace"),
    }
    writer = f"{os.getpid()}.{threading.get_ident()}"
    new = {name: folder / f".{name}.{writer}" for name in contents}
    new[CONFIG] = folder / f"{_unfinished(config[DIGEST])}.{writer}"
    try:
        for name, content in contents.items():
            new[name].unlink(missing_ok=True)  # of a killed writer with the same number
            with new[name].open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for name in contents:
            new[name].replace(folder / name)
            del new[name]
    finally:
        if WEIGHTS not in new:
            new.pop(CONFIG, None)  # keep it: the new tensors are in place and need it
        for path in new.values():
            path.unlink(missing_ok=True)
    _remove_abandoned(folder)


def _remove_abandoned(folder: Path) -> None:
    """Remove temporary files that no writer has changed for long.

    The process id in a name does not tell whether the writer is alive: on a shared disk, it may be a process
    of another machine. The clocks of machines may also differ, so file times are compared with that of the
    file just written, not with the local clock.
    """
    now = (folder / CARD).stat().st_mtime
    for path in (path for name in (WEIGHTS, CONFIG, CARD) for path in folder.glob(f".{name}.*")):
        with suppress(OSError):  # another writer has removed it, or it belongs to another user
            if now - path.stat().st_mtime > ABANDONED:
                path.unlink()


def _unfinished(sha256: str) -> str:
    """Prefix of the temporary file name of a new config."""
    return f".{CONFIG}.{sha256[:16]}"


def digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of tensors with their names, types and shapes."""
    result = hashlib.sha256()
    for name, x in sorted(tensors.items()):
        result.update(f"{name} {x.dtype} {tuple(x.shape)}\n".encode())
        result.update(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return result.hexdigest()


def find_adapter(folder: str | Path) -> Path:
    """The adapter folder itself, or the one inside a run folder.

    Raises:
        WeightsError: there is none.
    """
    for candidate in (Path(folder), Path(folder) / "adapter"):
        if (candidate / CONFIG).is_file():
            return candidate
    raise WeightsError(f"{folder}: no adapter here ({CONFIG} is missing)")


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read (config, tensors) of an adapter folder.

    Raises:
        WeightsError: a file is missing or damaged, or a newer version wrote it; the message names it.
    """
    config = _read_config(folder / CONFIG)
    path = folder / WEIGHTS
    try:
        tensors = load_file(path)
    except Exception as error:  # safetensors raises its own kinds
        with suppress(OSError):
            if sentence := foreign_format(path):  # a Git LFS pointer, a web page, ...
                raise WeightsError(f"{path}: {sentence}") from error
        raise WeightsError(f"{path}: missing or damaged: {first_line(error)}") from error
    sha256 = digest(tensors)
    if config.get(DIGEST) != sha256:
        # Either the new config is still under its temporary name, or it replaced the old one after we
        # read it.
        unfinished = _unfinished_config(folder, sha256)
        config = unfinished or _read_config(folder / CONFIG)
        if unfinished:
            warnings.warn(
                f"{folder}: {CONFIG} is older than {WEIGHTS}, because a write was interrupted or is in "
                "progress; the new adapter is loaded",
                VideoSSPWarning,
                stacklevel=3,
            )
        elif config.get(DIGEST, sha256) != sha256:
            raise WeightsError(f"{folder / WEIGHTS}: damaged: not the tensors that {CONFIG} describes")
    if config.get("format", 1) not in range(1, FORMAT + 1):
        raise WeightsError(
            f"{folder / CONFIG}: format {config['format']!r}; this version of videossp reads up to {FORMAT}: "
            "install a newer one"
        )
    return config, tensors


def _unfinished_config(folder: Path, sha256: str) -> dict[str, Any] | None:
    """The config still under its temporary name that belongs to the tensors with this hash, or None."""
    for path in folder.glob(f"{_unfinished(sha256)}.*"):
        with suppress(WeightsError):  # it has just replaced the old one
            config = _read_config(path)
            if config.get(DIGEST) == sha256:
                return config
    return None


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: not readable: {error}") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path}: damaged: not a JSON object")
    return config


def card(config: Mapping[str, Any], parameters: int) -> str:
    """The model card, with the metadata that the hub reads."""
    method, clip = config["method"], config["clip"]
    weights = config["base_model_weights"]
    base = name = config["base_model_name_or_path"]
    if config["base_model_seed"] is not None:
        base = f"{name} with RANDOM weights (seed {config['base_model_seed']})"
    elif weights:
        base = name = weights
    metrics = "".join(f"- {name}: {value}\n" for name, value in config["metrics"].items()) or "- none\n"
    return f"""---
library_name: videossp
pipeline_tag: video-classification
base_model: {json.dumps(name)}
base_model_relation: adapter
tags: [videomamba, {method}]
---

# {method} adapter for {base}

{parameters:,} trained parameters. The frozen backbone (sha256 {config["base_model_sha256"]}) is not included.
The package `videossp` loads this folder; `peft` does not.

Clips: {clip["frames"]} frames of {clip["size"][0]} x {clip["size"][1]} pixels, {clip["sampling"]} sampling.

Classes: {", ".join(map(printable, config["classes"]))}

Metrics:
{metrics}
```python
import videossp

classifier = videossp.load("PATH OF THIS FOLDER")
for prediction in classifier.predict(["video.mp4"]):
    print(prediction.path, prediction.label, prediction.probability)
```
"""
