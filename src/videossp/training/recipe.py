"""What a recipe was published with: to plan without the data, and to say in what this training differs."""

from collections.abc import Mapping
from pathlib import Path

from videossp.classifier import Classifier
from videossp.data.datasets import Sample, VideoDataset


def expected_samples(expect: Mapping[str, int | str]) -> VideoDataset:
    """Videos without files, as many as a recipe expects, to plan without the data."""
    missing = [name for name in ("classes", "train") if name not in expect]
    if missing:
        raise ValueError(f"no data, and no number of {', '.join(missing)} in expect: name the data set")
    count = int(expect["classes"])
    splits = {
        split: [Sample("", f"{split}/{i}", i % count) for i in range(int(expect[split]))]
        for split in ("train", "val", "test")
        if split in expect
    }
    return VideoDataset(tuple(str(i) for i in range(count)), splits)


def surprises(expect: Mapping[str, int | str], samples: VideoDataset, classifier: Classifier) -> list[str]:
    """In what the data and the backbone differ from what a recipe was published with."""
    found: dict[str, int | str] = {split: len(members) for split, members in samples.splits.items()}
    found["classes"] = len(samples.classes)
    found["backbone"] = Path(classifier.source.weights or classifier.source.name).name
    unknown = [name for name in expect if name not in ("classes", "train", "val", "test", "backbone")]
    if unknown:
        raise ValueError(f"expect: {unknown[0]!r} is none of classes, train, val, test, backbone")
    return [
        f"the recipe expects {name} {wanted}, this is {found.get(name, 'none')}"
        for name, wanted in expect.items()
        if found.get(name) != wanted
    ]
