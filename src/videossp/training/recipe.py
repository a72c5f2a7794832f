"""The data and backbone that a recipe was published with: plan without the data, report differences."""

from collections.abc import Mapping
from pathlib import Path

from videossp.classifier import Classifier
from videossp.data.datasets import Sample, VideoDataset

KEYS = ("classes", "train", "val", "test", "backbone")


def expected_samples(expect: Mapping[str, int | str]) -> VideoDataset:
    """A data set without files, as large as a recipe expects, to plan without the data.

    Args:
        expect: numbers of classes and of videos by split; the file name of the backbone.

    Raises:
        ValueError: the number of classes or of training videos is missing.
    """
    if missing := [name for name in ("classes", "train") if name not in expect]:
        raise ValueError(
            f"name the data set: without it a plan needs {' and '.join(missing)} in expect, as in recipes/"
        )
    count = int(expect["classes"])
    splits = {
        split: [Sample("", f"{split}/{i}", i % count) for i in range(int(expect[split]))]
        for split in ("train", "val", "test")
        if split in expect
    }
    return VideoDataset(tuple(str(i) for i in range(count)), splits)


def surprises(expect: Mapping[str, int | str], samples: VideoDataset, classifier: Classifier) -> list[str]:
    """Where the data and the backbone differ from those that a recipe was published with."""
    if unknown := [name for name in expect if name not in KEYS]:
        raise ValueError(f"expect: {unknown[0]!r} is none of {', '.join(KEYS)}")
    actual: dict[str, int | str] = {split: len(members) for split, members in samples.splits.items()}
    actual["classes"] = len(samples.classes)
    actual["backbone"] = Path(classifier.source.weights or classifier.source.name).name
    return [
        f"the recipe expects {name} {wanted}, this is {actual.get(name, 'none')}"
        for name, wanted in expect.items()
        if actual.get(name) != wanted
    ]
