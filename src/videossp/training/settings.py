"""The settings that a checkpoint belongs to, and the differences between two sets of settings."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from videossp.classifier import Classifier
from videossp.data.datasets import Sample
from videossp.data.sampling import ClipFormat
from videossp.methods import published_options
from videossp.training.config import TrainConfig, current_names, has_old_names
from videossp.training.plan import Plan

# Settings that may change when a run is resumed: they change no weight. The kind of device is another
# setting than the name of the device.
FREE = (
    *("device", "workers", "timeout", "features", "features_limit"),
    *("save_minutes", "on_error", "max_skipped", "trackers", "calibrate"),
)
DEVICE = "device_kind"


def settings_of(classifier: Classifier, plan: Plan, config: TrainConfig) -> dict[str, Any]:
    """The settings that must be the same for a run to be resumed from a checkpoint."""
    return {
        **without_free(asdict(config)),
        DEVICE: classifier.device.type,
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


def without_free(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those that may change when a run is resumed."""
    return {name: x for name, x in settings.items() if name not in FREE}


def fingerprint(samples: Sequence[Sample]) -> str:
    """sha256 of names and labels, in order."""
    return hashlib.sha256("\n".join(f"{x.name} {x.label}" for x in samples).encode()).hexdigest()


def check_settings(
    folder: Path, saved: Mapping[str, Any], current: Mapping[str, Any], change_device: bool = False
) -> str:
    """Refuse to resume a run with other settings than those of its checkpoint.

    Args:
        folder: the run folder.
        saved: settings of the checkpoint, of any version of this package.
        current: settings of this training (`settings_of`).
        change_device: whether the kind of device may differ.

    Returns:
        A remark if the kind of device differs, else "".

    Raises:
        ValueError: names the settings that differ.
    """
    plain = json.loads(json.dumps(current))
    if has_old_names(saved):
        saved, plain = complete_old_settings(saved), complete_options(plain)
    saved = with_defaults(saved)
    before, now = saved.pop(DEVICE, "cpu"), plain.pop(DEVICE)  # older versions do not record it
    if lines := differences(saved, plain):
        shown = "; ".join(x if len(x) < 100 else f"{x[:90]}..." for x in lines[:5])
        more = f"; and {len(lines) - 5} more" if len(lines) > 5 else ""
        device = "" if before == now else f"; it was trained on {before}, and this is {now}"
        raise ValueError(f"{folder}: cannot be resumed, these settings differ: {shown}{more}{device}")
    if before == now:
        return ""
    if not change_device:
        raise ValueError(
            f"{folder}: was trained on {before} and would continue on {now}, which is not exact: give "
            f"--device {before}, or --change-device true to continue on {now}"
        )
    return f"began on {before} and continues on {now}: not exactly the run without the change"


def complete_old_settings(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a checkpoint of version 0.1, with current names and what they left to defaults.

    Method options that were not given have the published value.
    """
    settings = with_defaults(current_names(saved))
    settings["clip"] = json.loads(json.dumps(asdict(ClipFormat()))) | settings["clip"]
    return complete_options(settings)


def with_defaults(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a checkpoint, with the default of each field that did not exist yet."""
    usual = json.loads(json.dumps(without_free(asdict(TrainConfig(precision="float32")))))
    return {**saved, **{name: x for name, x in usual.items() if name not in saved}}


def complete_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose method options are complete: the published value for each that is missing."""
    options = published_options(settings["method"], settings["options"])
    return {**settings, "options": json.loads(json.dumps(options))}


def arguments_of(classifier: Classifier) -> dict[str, Any]:
    """The arguments of `Classifier.create` that made it, except classes, method, options and seed."""
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


def differences(saved: Any, current: Any, name: str = "") -> list[str]:
    """The differences between two settings, as "name: SAVED before, CURRENT now"."""
    if not (isinstance(saved, dict) and isinstance(current, dict)):
        if saved == current:
            return []
        return [f"{name}: {json.dumps(saved)} before, {json.dumps(current)} now"]
    keys = [*saved, *(key for key in current if key not in saved)]
    prefix = f"{name}." if name else ""
    return [x for key in keys for x in differences(saved.get(key), current.get(key), f"{prefix}{key}")]
