"""`load`: the classifier of an adapter folder."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from videossp.adapter_folder import find_adapter, read_adapter
from videossp.class_names import class_names
from videossp.classifier import Classifier, check_clip
from videossp.data.sampling import ClipFormat
from videossp.errors import WeightsError
from videossp.methods import make_tuner, method_names, published_options, resolve_options
from videossp.model.backbones import CONFIG, NOT_REBUILDABLE, Source, absolute, build_backbone, source_of
from videossp.model.config import BACKBONES, VideoMambaConfig
from videossp.model.contents import tensors_of
from videossp.model.device import Device, choose_device
from videossp.model.head import Head
from videossp.model.precision import Precision
from videossp.model.videomamba import VideoMamba


def load(
    folder: str | Path,
    *,
    backbone: str | VideoMambaConfig | VideoMamba | None = None,
    device: Device | None = None,
) -> Classifier:
    """Load the classifier of an adapter folder, or of a run folder, which contains one.

    It computes in the precision that it had when it was saved, after a training that of the training;
    `to_precision` changes it.

    Args:
        folder: written by `Classifier.save`.
        backbone: path, hub id or published name of the backbone's weights, if they have moved since the
            training. Also a module, of which the classifier takes a copy, or sizes, as in
            `Classifier.create`. An adapter that was trained on a module or a state dict needs it.
        device: where it computes: "auto", "cpu", "cuda", "cuda:N" or "mps", see `choose_device`. Default: the
            CPU, or the device of a given module. `Classifier.to` moves it later.

    Raises:
        ValueError: an unknown device, or one that this machine does not have.
        WeightsError: files are missing or damaged, the backbone is not the one of the training, or the
            method is not known here.
    """
    chosen = None if device is None else choose_device(device)
    folder = find_adapter(folder)
    config, tensors = read_adapter(folder)
    try:
        sizes = VideoMambaConfig(**config["spec"])
        recorded = Source(
            config["base_model_name_or_path"], config["base_model_weights"], config["base_model_seed"] or 0
        )
        clip_format, classes, method = ClipFormat(**config["clip"]), config["classes"], config["method"]
        options, sha256, metrics = config["options"], config["base_model_sha256"], dict(config["metrics"])
        # Adapters of format 1 store the precision in the metrics, and store no drop_path and no dropout.
        precision = config.get("precision") or metrics.get("precision", "float32")
        drop_path, dropout = config.get("drop_path", 0.0), config.get("dropout", 0.0)
        if precision not in get_args(Precision):
            raise ValueError(f"precision {precision!r}")
        seconds = config.get("video_seconds")  # not recorded by older versions
        if seconds is not None and not 0 < float(seconds) < float("inf"):
            raise ValueError(f"video_seconds {seconds!r}")
        temperature = config.get("temperature", 1.0)  # not recorded by older versions
        if not 0 < float(temperature) < float("inf"):
            raise ValueError(f"temperature {temperature!r}")
        class_names(classes)
        check_clip(clip_format, sizes)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{folder}: its config is damaged or not of this program: {error!r}") from error
    source, given = recorded, None
    if isinstance(backbone, str):
        source = _elsewhere(recorded, absolute(backbone))
    elif backbone is not None:
        source, given = source_of(backbone, recorded.seed), backbone
    elif recorded.name == CONFIG:
        given = sizes
    elif recorded.name in NOT_REBUILDABLE:
        raise WeightsError(
            f"{folder}: trained on {NOT_REBUILDABLE[recorded.name]}, from which the backbone cannot be built "
            "again: give it, load(folder, backbone=...): its checkpoint or the VideoMamba"
        )
    try:
        unknown = [name for name in method.split("+") if name not in method_names()]
        if unknown:
            raise WeightsError(
                f"{folder}: its method {unknown[0]!r} is not known here: install its package, or call "
                f"videossp.register_method first; there are {', '.join(method_names())}"
            )
        if "format" not in config:
            options = published_options(method, options)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(source.seed)
            try:
                # Recorded paths are absolute. So a recorded name in the form of a hub id is a hub id.
                network, _ = build_backbone(
                    source, sizes.frames, sizes.size, drop_path, given=given, prefer_hub=source is recorded
                )
            except WeightsError as error:
                if source is not recorded:
                    raise
                raise WeightsError(
                    f"{folder}: its backbone cannot be read: {error}; if it has moved, give the file with "
                    f"sha256 {sha256} of tensors (backbone=..., --backbone)"
                ) from error
            classifier = Classifier(
                network,
                make_tuner(method, network.config, options),
                Head(network.config.d_model, len(classes), dropout),
                classes=classes,
                method=method,
                options=resolve_options(method, network.config, options),
                clip_format=clip_format,
                source=source,
            )
    except WeightsError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise WeightsError(f"{folder}: its config is damaged or not of this program: {error}") from error
    if classifier.sha256 != sha256:
        raise WeightsError(
            f"{folder}: trained on the backbone with sha256 {sha256}, but "
            f"{source.name if source.random else source.weights or source.name} has {classifier.sha256}; "
            "give the right one (backbone=..., --backbone)"
        )
    classifier.notes, classifier.warnings = source.notes, source.warnings
    classifier.metrics, classifier.precision = metrics, precision
    classifier.video_seconds = None if seconds is None else float(seconds)
    classifier.head.temperature = float(temperature)
    _load_adapter(classifier, tensors)
    return classifier if chosen is None else classifier.to(chosen)


def _elsewhere(source: Source, file: str) -> Source:
    """The source whose weights are now in another file."""
    if source.name in BACKBONES:
        return replace(source, weights=file)
    return replace(source, name=file, weights=None)


def _load_adapter(classifier: Classifier, tensors: Mapping[str, Tensor]) -> None:
    """Copy the tensors of an adapter into a classifier that was just made."""
    contents, everything = classifier.contents, tensors_of(classifier.parts())
    _check_fit({name: everything[name] for name in contents.held}, tensors, contents.learned)
    with torch.no_grad():
        for name, value in tensors.items():
            everything[name].copy_(value)


def load_trainable(classifier: Classifier, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into the parameters that require a gradient.

    Raises:
        WeightsError: their names or shapes differ.
    """
    parameters = classifier.trainable()
    _check_fit(parameters, tensors, parameters)
    with torch.no_grad():
        for name, value in tensors.items():
            parameters[name].copy_(value)


def _check_fit(targets: Mapping[str, Tensor], tensors: Mapping[str, Tensor], needed: Iterable[str]) -> None:
    """Raise a WeightsError if a needed tensor is missing, or one has no target of its shape."""
    misfits = {name for name in needed if name not in tensors} | (tensors.keys() - targets.keys())
    misfits |= {x for x in targets.keys() & tensors.keys() if targets[x].shape != tensors[x].shape}
    if misfits:
        raise WeightsError(f"the tensors do not fit the adapter's config: {', '.join(sorted(misfits)[:8])}")
