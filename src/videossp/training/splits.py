"""Which videos train, and which choose the epoch."""

from collections.abc import Sequence

from videossp.data.datasets import Sample, VideoDataset, hold_out
from videossp.errors import DataError
from videossp.inference.evaluate import relabel
from videossp.training.config import TrainConfig


def choose_splits(
    samples: VideoDataset, classes: Sequence[str], config: TrainConfig
) -> tuple[list[Sample], list[Sample], str, list[str]]:
    """(training, validation, how the validation videos came about, warnings)."""
    splits = {split: relabel(members, samples.classes, classes) for split, members in samples.splits.items()}
    if not splits.get("train"):
        raise DataError("there is nothing to train on: no train split")
    tested = {(x.path, x.start, x.end) for x in splits.get("test", [])}
    if config.select_on == "test":
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
    training, validation = hold_out(splits["train"], config.val_fraction)
    if not validation:
        raise DataError(
            "too few videos to hold some out for validation: at least two of some class are needed"
        )
    whole = any(x.group is not None for x in training)
    held_out = f"{config.val_fraction:.0%} of each class{', groups kept whole' * whole}"
    return training, validation, held_out, []
