"""The videos that train and the videos that select the epoch."""

from collections.abc import Sequence
from typing import NamedTuple

from videossp.data.datasets import Sample, VideoDataset, hold_out
from videossp.errors import DataError
from videossp.inference.evaluate import relabel
from videossp.training.config import TrainConfig


class Splits(NamedTuple):
    """Training and validation videos, where the latter come from ("": there are none), and warnings."""

    training: list[Sample]
    validation: list[Sample]
    validation_source: str
    warnings: list[str]


def choose_splits(samples: VideoDataset, classes: Sequence[str], config: TrainConfig) -> Splits:
    """Choose the training and validation videos, labelled by the classes of the classifier.

    Raises:
        DataError: there is no training split, or there are too few videos to hold some out.
    """
    splits = {split: relabel(members, samples.classes, classes) for split, members in samples.splits.items()}
    training = splits.get("train")
    if not training:
        raise DataError("the data has no training split")
    test = {clip_key(x) for x in splits.get("test", [])}
    if config.select_on == "test":
        if not test:
            raise DataError("select_on test: the data has no test split")
        warning = "the epoch is selected on the TEST split, which gives an optimistically biased accuracy"
        return Splits(training, splits["test"], "the test split", [warning])
    if validation := splits.get("val"):
        shared = sum(clip_key(x) in test for x in validation)
        warning = (
            f"{shared} of {len(validation)} validation videos are also test videos: the epoch is selected on "
            "TEST videos, which gives an optimistically biased accuracy"
        )
        return Splits(training, validation, "the val split", [warning] if shared else [])
    if not config.val_fraction:
        return Splits(training, [], "", [])
    training, validation = hold_out(training, config.val_fraction)
    if not validation:
        raise DataError(
            "too few videos to hold some out for validation: one class needs at least two; --val-fraction 0 "
            "trains on all of them, without validation"
        )
    grouped = any(x.group is not None for x in training)
    validation_source = f"{config.val_fraction:.0%} of each class{', whole groups' if grouped else ''}"
    return Splits(training, validation, validation_source, [])


def clip_key(sample: Sample) -> tuple[object, ...]:
    """The file of a sample and its part of it: equal for two samples that are the same clip."""
    return sample.path, *sample.part
