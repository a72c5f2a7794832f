"""`Plan`: the videos, steps and learning rate of a training, known before it starts."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from videossp.classifier import Classifier
from videossp.data.augment import directional_classes, should_flip
from videossp.data.datasets import Sample, VideoDataset
from videossp.data.datasets.class_doubts import class_warnings
from videossp.errors import DataError
from videossp.methods import default_lr
from videossp.system.terminal import shorten
from videossp.training.config import TrainConfig
from videossp.training.schedule import warmup_cosine
from videossp.training.splits import Splits, choose_splits

FEW = 5  # validation videos of a class; even with 5 of 5 right, its 95 % interval is 57 to 100 %
SKEWED = 5  # times as many videos in the largest class as in the smallest


@dataclass(frozen=True)
class Plan:
    """The videos, steps and learning rate of a training.

    Attributes:
        training: videos to train on.
        validation: videos that select the epoch; none: the last epoch is kept.
        validation_source: where the validation videos come from; empty if there are none.
        flip: whether clips are mirrored.
        steps_per_epoch: optimiser steps.
        steps: of all epochs.
        warmup: steps of the warm-up.
        clips_per_step: of a full step, over all processes.
        lr, min_lr: peak and end of the learning rate, after scaling.
        warnings: reasons why the figures may mislead.
        notes: other remarks.
    """

    training: Sequence[Sample]
    validation: Sequence[Sample]
    validation_source: str
    flip: bool
    steps_per_epoch: int
    steps: int
    warmup: int
    clips_per_step: int
    lr: float
    min_lr: float
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def rate_factor(self) -> Callable[[int], float]:
        """The factor on the peak learning rate for a step, counted from 0."""
        return warmup_cosine(self.steps, self.warmup, self.min_lr / self.lr)


def resolve(config: TrainConfig, classifier: Classifier, device: torch.device) -> TrainConfig:
    """The settings with a learning rate and a precision.

    The default rate is that of the method and the backbone; the default precision is bf16 on CUDA, else
    float32.
    """
    lr, precision = config.lr, config.precision
    if lr is None:
        lr = default_lr(classifier.unregistered or classifier.method, classifier.backbone.config)
    if precision is None:
        precision = "bf16" if device.type == "cuda" else "float32"
    return replace(config, lr=lr, precision=precision)


def caches_features(config: TrainConfig, classifier: Classifier) -> bool:
    """Whether the training caches features: augmentations repeat, and the method reads only the output.

    Raises:
        ValueError: mixup or cutmix, which need pixels, together with the cache.
    """
    if not config.fixed_augmentations or classifier.tuner.depends_on == "blocks":
        return False
    if config.mixup or config.cutmix:
        raise ValueError(
            f"fixed_augmentations caches the features of {classifier.method}, but mixup and cutmix mix "
            "pixels: leave out one of them"
        )
    return True


def make_plan(samples: VideoDataset, classes: Sequence[str], config: TrainConfig, processes: int = 1) -> Plan:
    """Plan a training.

    Args:
        samples: the data set.
        classes: class names of the classifier.
        config: settings whose learning rate is a number (`resolve`).
        processes: processes that train together. Each has its own batches.

    Raises:
        DataError: no training videos, or too few to hold some out for validation.
        ValueError: flip is on, but class names hold a direction.
    """
    if config.lr is None:
        raise ValueError("the learning rate must be a number before a run is planned: resolve")
    splits = choose_splits(samples, classes, config)
    per_epoch = steps_per_epoch(len(splits.training), config, processes)
    if per_epoch == 0:
        raise DataError(
            f"{len(splits.training)} videos do not fill one step of {config.batch_size} x "
            f"{config.grad_accum_steps}, so drop_last leaves none"
        )
    flip = should_flip(config.flip, classes)
    notes = validation_notes(splits, classes)
    notes += balance_notes([x.label for x in splits.training], classes, config.balance)
    if not flip and config.flip == "auto":
        notes.append(f"horizontal flip disabled: it would swap {directional_classes(classes)}")
    clips = config.batch_size * config.grad_accum_steps * config.num_sample * processes
    scale = clips / 256 if config.scale_lr else 1.0
    plan = Plan(
        splits.training,
        splits.validation,
        splits.validation_source,
        flip,
        steps_per_epoch=per_epoch,
        steps=config.epochs * per_epoch,
        warmup=round(config.warmup_epochs * per_epoch),
        clips_per_step=clips,
        lr=config.lr * scale,
        min_lr=config.min_lr * scale,
        warnings=(*class_warnings(samples), *splits.warnings),
        notes=tuple(notes),
    )
    return replace(plan, warnings=(*plan.warnings, *warmup_warnings(plan)))


def validation_notes(splits: Splits, classes: Sequence[str]) -> list[str]:
    """Remarks if there is no validation, or none or little of some of the classes that are trained."""
    if not splits.validation:
        return ["val_fraction 0: no validation, the last epoch is kept"]
    counts = Counter(x.label for x in splits.validation)
    trained = sorted({x.label for x in splits.training})
    missing = [classes[i] for i in trained if not counts[i]]
    few = [classes[i] for i in trained if 0 < counts[i] < FEW]
    notes = [f"no validation video of {shorten(missing)}"] if missing else []
    if few:
        notes.append(f"fewer than {FEW} validation videos, too few to measure a class: {shorten(few)}")
    return notes


def balance_notes(labels: Sequence[int], classes: Sequence[str], balance: str) -> list[str]:
    """A remark if the largest class has several times the videos of the smallest, or on the balance."""
    counts = Counter(labels)
    most, least = (f(counts, key=counts.__getitem__) for f in (max, min))
    ratio = counts[most] / counts[least]
    if balance == "none" and ratio < SKEWED:
        return []
    effects = {
        "none": "; --balance sampler or loss counts each class the same",
        "loss": f"; the loss has weights from {1 / ratio:.2g} to 1 times that of the smallest class",
        "sampler": "; each class takes an equal part of every epoch",
    }
    text = f"from {counts[least]} ({classes[least]}) to {counts[most]} ({classes[most]})"
    return [f"training videos of a class: {text}{effects[balance]}"]


def steps_per_epoch(videos: int, config: TrainConfig, processes: int = 1) -> int:
    """Optimiser steps of a pass over this many videos."""
    step = config.batch_size * config.grad_accum_steps * processes
    return videos // step if config.drop_last else math.ceil(videos / step)


def warmup_warnings(plan: Plan) -> list[str]:
    """A warning if the run ends within its warm-up."""
    if plan.warmup < plan.steps:
        return []
    reached = 100 * plan.rate_factor(plan.steps - 1)
    return [
        f"the warm-up takes {plan.warmup} steps and the run has {plan.steps}: the learning rate ends at "
        f"{reached:.0f} % of its peak and never decays; use more epochs or a smaller warmup_epochs"
    ]
