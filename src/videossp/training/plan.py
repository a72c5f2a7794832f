"""`TrainConfig`, how to train; `Plan`, what follows from it: steps, learning rate, who trains on what."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from videossp.data.augment import directed, mirror
from videossp.data.datasets import Sample, VideoDataset
from videossp.errors import DataError
from videossp.training.config import TrainConfig
from videossp.training.splits import choose_splits


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


def make_plan(samples: VideoDataset, classes: Sequence[str], config: TrainConfig, processes: int = 1) -> Plan:
    """The plan of a training by this many processes, each of which has batches of its own.

    Raises:
        DataError: no training or no validation videos.
        ValueError: mirror images are asked for that class names forbid.
    """
    training, validation, held_out, warnings = choose_splits(samples, classes, config)
    steps = steps_per_epoch(len(training), config, processes)
    if steps == 0:
        raise DataError(
            f"{len(training)} videos do not fill one step of {config.batch_size} x "
            f"{config.grad_accum_steps}; drop_last leaves nothing"
        )
    flip = mirror(config.flip, classes)
    if not flip and config.flip == "auto":
        warnings.append(f"no mirror images: they would turn round {directed(classes)}")
    clips = config.batch_size * config.grad_accum_steps * config.num_sample * processes
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
    step = config.batch_size * config.grad_accum_steps * processes
    return videos // step if config.drop_last else math.ceil(videos / step)
