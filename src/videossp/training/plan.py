"""`TrainConfig`, how to train; `Plan`, what follows from it: steps, learning rate, who trains on what."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from videossp.classifier import Classifier
from videossp.data.augment import directed, mirror, parse_rand_augment
from videossp.data.datasets import Sample, Samples, split_off
from videossp.data.video import DataError
from videossp.inference.evaluate import OnError, relabel
from videossp.model.precision import Precision


@dataclass(frozen=True)
class TrainConfig:
    """How to train; the same for every method.

    Attributes:
        epochs: passes over the training videos.
        batch_size: videos per batch.
        accumulate: batches per optimiser step; their gradients are averaged over the clips.
        drop_last: leave out the videos that do not fill the last step of an epoch.
        lr: peak learning rate of AdamW.
        min_lr: learning rate at both ends: warm-up starts from it, the cosine ends at it.
        scale_lr: multiply lr and min_lr by the clips of a step over 256, the paper's rule.
        warmup_epochs: epochs of linear warm-up.
        weight_decay: of AdamW, on matrices only.
        layer_decay: learning rate of a block over that of the next one; 1 is the same for all. Where a
            method keeps all blocks in one tensor, or shares weights among them, they train at the full rate.
        label_smoothing: share of the target spread over all classes.
        num_sample: clips made of a video each time it is read, of the same frames, augmented independently
            (repeated augmentation).
        draws: augmentations of each video, which the epochs take in turn; 0: another in each epoch. If there
            are some, and the method reads only what comes out of the frozen backbone (linear, mean,
            attentive), its features are computed once and kept on disk.
        features: folder to keep them in; default: videossp/features in the user's cache folder.
        scale: smallest and largest share of a frame that a random crop covers.
        flip: mirror half of the clips. auto: unless class names hold a direction; on: the same, but that
            is an error; force: whatever they hold.
        rand_augment: RandAugment by timm's name for it, as rand-m7-n4-mstd0.5-inc1; empty: none.
        erasing: probability of random erasing.
        mixup, cutmix: alpha of the Beta distribution of Mixup and CutMix; 0: off. Both: either, by chance.
        val_share: share of each class held out to choose the epoch, if the data has no validation split; the
            same videos whatever the seed, so that runs can be compared.
        choose_on: the split that chooses the epoch. test, which many published runs use, makes the
            reported accuracy too good.
        grad_checkpoint: compute the inside of each block again for the backward instead of keeping it:
            less than half the memory, about 1.6 times the time.
        precision: of the matrix products; bf16 rounds the frozen weights.
        clip_grad: largest norm of the gradient; 0: any.
        ema: decay of a moving average of the weights, which is then what is validated and kept; 0: none.
        max_skipped: steps of a run that may be left out because the loss or the gradient is not finite.
        save_minutes: at least this often a checkpoint is written, and after each epoch.
        trackers: names of accelerate's trackers (tensorboard, wandb, ...), besides metrics.jsonl.
        on_error: at a video that cannot be decoded: stop with an error, or skip it and list it.
        workers: processes that decode ahead; 0 decodes in this one.
        timeout: seconds that a batch of theirs may take.
        seed: of everything random.
    """

    epochs: int = 10
    batch_size: int = 8
    accumulate: int = 1
    drop_last: bool = False
    lr: float = 1e-3
    min_lr: float = 1e-6
    scale_lr: bool = False
    warmup_epochs: float = 1.0
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    label_smoothing: float = 0.1
    num_sample: int = 1
    draws: int = 0
    features: str | None = None
    scale: tuple[float, float] = (0.5, 1.0)
    flip: Literal["auto", "on", "off", "force"] = "auto"
    rand_augment: str = ""
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    val_share: float = 0.2
    choose_on: Literal["val", "test"] = "val"
    grad_checkpoint: bool = False
    precision: Precision = "float32"
    clip_grad: float = 0.0
    ema: float = 0.0
    max_skipped: int = 5
    save_minutes: float = 10.0
    trackers: tuple[str, ...] = ()
    on_error: OnError = "error"
    workers: int = 0
    timeout: float = 300.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", tuple(self.scale))
        object.__setattr__(self, "trackers", tuple(self.trackers))
        least = {"epochs": 1, "batch_size": 1, "accumulate": 1, "num_sample": 1}
        least |= dict.fromkeys(
            ("workers", "seed", "min_lr", "weight_decay", "warmup_epochs", "mixup", "cutmix")
            + ("clip_grad", "max_skipped", "save_minutes", "timeout", "draws"),
            0,
        )
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} must be at least {bound}, got {getattr(self, name)}")
        if not 0 <= self.label_smoothing < 1 or not 0 <= self.erasing <= 1:
            raise ValueError("label_smoothing must lie in [0, 1), erasing in [0, 1]")
        if not 0 < self.val_share < 1:
            raise ValueError(f"val_share must lie between 0 and 1, got {self.val_share}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must be two shares in (0, 1], the smaller first, got {self.scale}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must lie in [0, 1), got {self.ema}")
        if not self.lr > 0 or not 0 < self.layer_decay <= 1:
            raise ValueError("lr must be positive, layer_decay in (0, 1]")
        if self.min_lr > self.lr:
            raise ValueError(
                f"min_lr, where the rate starts and ends, is above its peak: {self.min_lr} > {self.lr}"
            )
        if self.flip not in ("auto", "on", "off", "force") or self.choose_on not in ("val", "test"):
            raise ValueError("flip is auto, on, off or force; choose_on is val or test")
        if self.rand_augment:
            parse_rand_augment(self.rand_augment)


@dataclass(frozen=True)
class Plan:
    """What a training will do, known before it starts.

    Attributes:
        training: videos to train on.
        validation: videos that choose the epoch.
        held_out: how the validation videos came about.
        flip: whether clips are mirrored.
        steps_per_epoch: optimiser steps.
        clips_per_step: of a full step.
        lr, min_lr: after scaling.
        warnings: what makes the figures less than they seem.
    """

    training: Sequence[Sample]
    validation: Sequence[Sample]
    held_out: str
    flip: bool
    steps_per_epoch: int
    clips_per_step: int
    lr: float
    min_lr: float
    warnings: tuple[str, ...]


def make_plan(samples: Samples, classes: Sequence[str], config: TrainConfig, processes: int = 1) -> Plan:
    """The plan of a training by this many processes, each of which has batches of its own.

    Raises:
        DataError: no training or no validation videos.
        ValueError: mirror images are asked for that class names forbid.
    """
    training, validation, held_out, warnings = choose_splits(samples, classes, config)
    steps = steps_per_epoch(len(training), config, processes)
    if steps == 0:
        raise DataError(
            f"{len(training)} videos do not fill one step of {config.batch_size} x {config.accumulate}; "
            "drop_last leaves nothing"
        )
    flip = mirror(config.flip, classes)
    if not flip and config.flip == "auto":
        warnings.append(f"no mirror images: they would turn round {directed(classes)}")
    clips = config.batch_size * config.accumulate * config.num_sample * processes
    factor = clips / 256 if config.scale_lr else 1.0
    return Plan(
        training,
        validation,
        held_out,
        flip,
        steps,
        clips,
        config.lr * factor,
        config.min_lr * factor,
        tuple(warnings),
    )


def steps_per_epoch(videos: int, config: TrainConfig, processes: int = 1) -> int:
    """Optimiser steps of a pass over this many videos."""
    step = config.batch_size * config.accumulate * processes
    return videos // step if config.drop_last else math.ceil(videos / step)


def choose_splits(
    samples: Samples, classes: Sequence[str], config: TrainConfig
) -> tuple[list[Sample], list[Sample], str, list[str]]:
    """(training, validation, how the validation videos came about, warnings)."""
    splits = {split: relabel(members, samples.classes, classes) for split, members in samples.splits.items()}
    if not splits.get("train"):
        raise DataError("there is nothing to train on: no train split")
    tested = {(x.path, x.start, x.end) for x in splits.get("test", [])}
    if config.choose_on == "test":
        if not tested:
            raise DataError("choose_on test: the data has no test split")
        warning = "the epoch is chosen on the TEST split: its accuracy there is too good"
        return splits["train"], splits["test"], "the test split", [warning]
    if splits.get("val"):
        both = sum((x.path, x.start, x.end) in tested for x in splits["val"])
        warnings = []
        if both:
            warnings.append(
                f"{both} of {len(splits['val'])} validation videos are test videos as well: "
                "the epoch is chosen on TEST videos, accuracy there is too good"
            )
        return splits["train"], splits["val"], "the val split", warnings
    training, validation = split_off(splits["train"], config.val_share)
    if not validation:
        raise DataError(
            "too few videos to hold some out for validation: at least two of some class are needed"
        )
    whole = any(x.group is not None for x in training)
    held_out = f"{config.val_share:.0%} of each class{', groups kept whole' * whole}"
    return training, validation, held_out, []


def plan_lines(classifier: Classifier, plan: Plan, config: TrainConfig) -> list[str]:
    """The plan as it is printed before a run."""
    tuned = sum(x.numel() for x in classifier.tuned().values())
    whole = sum(x.numel() for x in classifier.parameters())
    usual = TrainConfig()
    changed = {
        x.name: getattr(config, x.name)
        for x in fields(config)
        if x.name in ("num_sample", "rand_augment", "erasing", "mixup", "cutmix", "layer_decay")
        and getattr(config, x.name) != getattr(usual, x.name)
    }
    lines = [
        f"{classifier.source.name} + {classifier.method}: {tuned:,} of {whole:,} weights train",
        f"{len(plan.training)} videos to train, {len(plan.validation)} to validate ({plan.held_out}), "
        f"{len(classifier.classes)} classes, {config.epochs} epochs of {plan.steps_per_epoch} steps, "
        f"mirror images {'on' if plan.flip else 'off'}",
    ]
    form = classifier.form
    if form.sampling != "uniform" or form.views != (1, 1):
        views = "{} x {}".format(*form.views)
        lines.append(f"{form.frames} frames, {form.sampling}; test views (segments x crops) {views}")
    rule = f" = {config.lr:g} x {plan.clips_per_step} clips per step / 256" if config.scale_lr else ""
    lines.append(f"learning rate {plan.lr:.3g}{rule}")
    if changed:
        lines.append(", ".join(f"{name} {value}" for name, value in changed.items()))
    return lines + [f"note: {x}" for x in plan.warnings]


def summary(classifier: Classifier, plan: Plan, config: TrainConfig) -> dict[str, Any]:
    """The plan as figures."""
    return {
        "backbone": classifier.source.weights or classifier.source.name,
        "method": classifier.method,
        "tuned_parameters": sum(x.numel() for x in classifier.tuned().values()),
        "parameters": sum(x.numel() for x in classifier.parameters()),
        "classes": len(classifier.classes),
        "training_videos": len(plan.training),
        "validation_videos": len(plan.validation),
        "epochs": config.epochs,
        "steps_per_epoch": plan.steps_per_epoch,
        "steps": plan.steps_per_epoch * config.epochs,
        "clips_per_step": plan.clips_per_step,
        "lr": plan.lr,
        "min_lr": plan.min_lr,
        "warmup_epochs": config.warmup_epochs,
        "views": "{} x {}".format(*classifier.form.views),
    }
