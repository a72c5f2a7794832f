"""The adapter folder: adapter_config.json, adapter_model.safetensors and a model card."""

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from videossp.errors import WeightsError
from videossp.model.published import first_line

CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"


def write_adapter(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write the folder; each file appears whole or not at all, so that a full disk spoils nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    new = {
        name: folder / f".{name}.{os.getpid()}.{threading.get_ident()}" for name in (WEIGHTS, CONFIG, CARD)
    }
    try:
        save_file(dict(tensors), new[WEIGHTS], metadata={"format": "pt"})
        new[WEIGHTS].chmod(0o644)
        new[CONFIG].write_text(text, encoding="utf-8")
        new[CARD].write_text(card(config, sum(x.numel() for x in tensors.values())), encoding="utf-8")
        for name, path in new.items():
            path.replace(folder / name)
    finally:
        for path in new.values():
            path.unlink(missing_ok=True)


def find_adapter(folder: str | Path) -> Path:
    """The adapter folder itself, or the one inside a run folder."""
    for candidate in (Path(folder), Path(folder) / "adapter"):
        if (candidate / CONFIG).is_file():
            return candidate
    raise WeightsError(f"{folder}: no adapter here ({CONFIG} is missing)")


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(config, tensors) of an adapter folder, or a WeightsError that names the file."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{folder / CONFIG}: not readable: {error}") from error
    try:
        return config, load_file(folder / WEIGHTS)
    except Exception as error:  # safetensors raises its own kinds
        raise WeightsError(f"{folder / WEIGHTS}: missing or damaged: {first_line(error)}") from error


def card(config: Mapping[str, Any], tuned: int) -> str:
    """The model card, with the metadata that the hub reads."""
    method, clip = config["method"], config["clip"]
    base = config["base_model_weights"] or config["base_model_name_or_path"]
    metrics = "".join(f"- {name}: {value}\n" for name, value in config["metrics"].items()) or "- none\n"
    return f"""---
library_name: videossp
pipeline_tag: video-classification
base_model: {json.dumps(base)}
base_model_relation: adapter
tags: [videomamba, {method}]
---

# {method} adapter for {base}

{tuned:,} trained parameters. The backbone (sha256 {config["base_model_sha256"]}) is not in this folder.

Clips: {clip["frames"]} frames of {clip["size"][0]} x {clip["size"][1]} pixels, {clip["sampling"]} sampling.

Classes: {", ".join(config["classes"])}

Metrics:
{metrics}
```python
import videossp

classifier = videossp.load("PATH OF THIS FOLDER")
print(classifier.predict(["video.mp4"]))
```
"""
