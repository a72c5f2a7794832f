"""`Sample` is one labelled video, `VideoDataset` a data set by splits; `split_off` holds out a part."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np

from videossp.errors import DataError

Split = Literal["train", "val", "test"]
# What the field calls them, in folder names, file names and columns.
SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# (stable id of the check, one line with file and line, name of the video): see `doctor.CHECKS`.
Complain = Callable[[str, str, str], None]


@dataclass(frozen=True)
class Sample:
    """One labelled video.

    Attributes:
        path: where it lies.
        name: its path relative to the data set's root, which names it in reports; a part of a video
            has its seconds behind, as in "a.mp4#t=1.5,4".
        label: index into the data set's classes.
        start, end: the part of the file that counts, in seconds, [start, end); None: from its beginning,
            to its end.
        group: samples that must not be divided among splits (a person, a source video) share it.
    """

    path: str
    name: str
    label: int
    start: float | None = None
    end: float | None = None
    group: str | None = None

    @property
    def base_name(self) -> str:
        """The file's name up to its first dot, by which published code tells videos apart."""
        return PurePosixPath(self.name).name.split(".")[0]


@dataclass(frozen=True)
class VideoDataset:
    """A data set.

    Attributes:
        classes: their names; a label is an index into them.
        splits: samples by "train", "val", "test".
        ignored: files that were met and are no videos.
        missing: videos that the annotation names and the disk lacks, where that is usual (Kinetics).
        unlabelled: videos without a label by split, for those splits that are published so.
        origin: the arguments of `read_data` that gave it, for a run's config.
    """

    classes: tuple[str, ...]
    splits: dict[str, list[Sample]]
    ignored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unlabelled: Mapping[str, Sequence[str]] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)

    def every(self) -> list[tuple[str, Sample]]:
        """(split, sample), split by split."""
        return [(split, sample) for split, members in self.splits.items() for sample in members]


def refuse(check: str, message: str, video: str = "") -> None:
    """The strict reader's answer to what is wrong with an annotation: an error."""
    raise DataError(message)


def group_of(sample: Sample) -> str:
    """What must not be torn apart by a split: the group, else the file that it is a part of, else itself."""
    part = sample.start is not None or sample.end is not None
    return sample.group if sample.group is not None else sample.path if part else sample.name


def split_off(samples: Sequence[Sample], share: float, seed: int = 0) -> tuple[list[Sample], list[Sample]]:
    """(kept, split off): a random `share` of each class, at least one of every class that can spare it.

    Samples of one group stay together, in whatever classes they are; without groups, the parts of one file.
    The draw depends on (seed, names, groups) only.
    """
    rng = np.random.default_rng(seed)
    group = {x.name: group_of(x) for x in samples}
    sizes: dict[int, Counter[str]] = defaultdict(Counter)  # label -> group -> samples
    labels: dict[str, set[int]] = defaultdict(set)  # group -> its labels
    for x in samples:
        sizes[x.label][group[x.name]] += 1
        labels[group[x.name]].add(x.label)
    left = {label: len(groups) for label, groups in sizes.items()}  # groups that stay
    off: set[str] = set()
    for label in sorted(sizes):
        names = sorted(sizes[label])
        most = max(min(sizes[label].values()), round(share * sizes[label].total()))
        taken = sum(sizes[label][name] for name in names if name in off)
        for name in (names[i] for i in rng.permutation(len(names))):
            fits = taken + sizes[label][name] <= most
            if fits and name not in off and all(left[x] > 1 for x in labels[name]):
                off.add(name)
                taken += sizes[label][name]
                for other in labels[name]:
                    left[other] -= 1
    kept = [x for x in samples if group[x.name] not in off]
    return kept, [x for x in samples if group[x.name] in off]
