"""Recipes: plan a published run without its data, and report how a training differs from it."""

from collections.abc import Mapping
from pathlib import Path

from videossp.classifier import Classifier
from videossp.data.datasets import Sample, VideoDataset
from videossp.model.published_backbones import PUBLISHED_BACKBONES

EXPECTED = ("classes", "train", "val", "test", "backbone")


def expected_samples(expect: Mapping[str, int | str]) -> VideoDataset:
    """A data set without files that has as many classes and videos as a recipe expects.

    Args:
        expect: numbers of "classes", "train" and, if there are such splits, "val" and "test".

    Raises:
        ValueError: "classes" or "train" is missing.
    """
    missing = [name for name in ("classes", "train") if name not in expect]
    if missing:
        raise ValueError(
            f"name the data set: without it the plan needs the number of {' and '.join(missing)} in --expect"
        )
    count = int(expect["classes"])
    splits = {
        split: [Sample("", f"{split}/{i}", i % count) for i in range(int(expect[split]))]
        for split in ("train", "val", "test")
        if split in expect
    }
    return VideoDataset(tuple(str(i) for i in range(count)), splits)


def deviations(expect: Mapping[str, int | str], samples: VideoDataset, classifier: Classifier) -> list[str]:
    """How the data and the backbone differ from those that a recipe expects, a line each.

    Args:
        expect: numbers of "classes", "train", "val" and "test", and the file name of the "backbone".
        samples: the data set.
        classifier: its backbone is compared by file name.

    Raises:
        ValueError: another name in `expect`.
    """
    actual: dict[str, int | str] = {split: len(members) for split, members in samples.splits.items()}
    actual["classes"] = len(samples.classes)
    backbone = classifier.source.weights or classifier.source.name
    published = PUBLISHED_BACKBONES.get(backbone)
    actual["backbone"] = published.file if published else Path(backbone).name
    unknown = [name for name in expect if name not in EXPECTED]
    if unknown:
        raise ValueError(f"--expect has no {unknown[0]!r}; it has {', '.join(EXPECTED)}")
    return [
        f"the recipe expects {name} {expected}, this is {actual.get(name, 'none')}"
        for name, expected in expect.items()
        if actual.get(name) != expected
    ]
