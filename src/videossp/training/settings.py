"""The settings that a checkpoint belongs to, and how two sets of settings differ."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from videossp.classifier import Classifier
from videossp.data.datasets import Sample
from videossp.training.config import TrainConfig
from videossp.training.plan import Plan


def settings_of(classifier: Classifier, plan: Plan, config: TrainConfig) -> dict[str, Any]:
    """What a checkpoint belongs to: it may be gone on from only where all of this is the same."""
    free = ("workers", "timeout", "features", "save_minutes", "on_error", "max_skipped", "trackers")
    return {
        **{name: x for name, x in asdict(config).items() if name not in free},
        "clips_per_step": plan.clips_per_step,
        "method": classifier.method,
        "options": classifier.options,
        "drop_path": classifier.backbone.drop_path,
        "dropout": classifier.head.dropout.p,
        "clip": asdict(classifier.clip_format),
        "classes": classifier.classes,
        "backbone_sha256": classifier.sha256,
        "training_videos": fingerprint(plan.training),
        "validation_videos": fingerprint(plan.validation),
    }


def fingerprint(samples: Sequence[Sample]) -> str:
    """sha256 of names and labels, in order."""
    return hashlib.sha256("\n".join(f"{x.name} {x.label}" for x in samples).encode()).hexdigest()


def check_settings(folder: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Refuse to go on with another training than the one that a checkpoint is of.

    Raises:
        ValueError: names what differs.
    """
    odd = differences(dict(there), json.loads(json.dumps(here)))
    if odd:
        said = "; ".join(x if len(x) < 100 else f"{x[:90]}..." for x in odd[:5])
        raise ValueError(f"{folder}: its checkpoint is of another training: {said}")


def arguments_of(classifier: Classifier) -> dict[str, Any]:
    """The arguments of `Classifier.create` that made it, but for classes, method, options and seed."""
    clip_format, source = classifier.clip_format, classifier.source
    return {
        "backbone": source.name,
        "weights": source.weights,
        "frames": clip_format.frames,
        "size": clip_format.size,
        "sampling": clip_format.sampling,
        "stride": clip_format.stride,
        "views": clip_format.views,
        "drop_path": classifier.backbone.drop_path,
        "dropout": classifier.head.dropout.p,
    }


def differences(there: Any, here: Any, name: str = "") -> list[str]:
    """What differs between two settings, as "name: value there, value here"."""
    if not (isinstance(there, dict) and isinstance(here, dict)):
        return [] if there == here else [f"{name}: {json.dumps(there)} there, {json.dumps(here)} here"]
    keys = [*there, *(key for key in here if key not in there)]
    dot = f"{name}." if name else ""
    return [x for key in keys for x in differences(there.get(key), here.get(key), f"{dot}{key}")]
