"""Splits: their names in files, folders and columns, and `hold_out` for data without a validation split."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from videossp.data.datasets.sample import Sample
from videossp.errors import DataError

Split = Literal["train", "val", "test"]
# Names of the splits in folder names, file names and columns.
SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@lru_cache(maxsize=1000)
def split_in_name(name: str) -> Split | None:
    """The split in a file name (trainlist01.txt, k400_val_videos.txt, TestSet.csv); None unless it is one."""
    words = re.findall(r"[a-z]+", re.sub("list|split|set|fold", " ", name.lower()))
    splits = {SPLITS[x] for x in words if x in SPLITS}
    return splits.pop() if len(splits) == 1 else None


def split_of(location: str, word: str, file: Path, video: str = "") -> Split:
    """The split of a line of an annotation.

    It is given by the split column, else the name of the annotation file, else the folder that the video's
    path starts with; the default is "train".

    Args:
        location: "FILE:LINE", for messages.
        word: the value of the split column; "": none.
        file: the annotation file.
        video: path of the video.

    Raises:
        DataError: the word is no split.
    """
    if word and word.lower() not in SPLITS:
        raise DataError(f"{location}: split {word!r}; expected one of {', '.join(SPLITS)}")
    folder = SPLITS.get(video.split("/")[0].lower(), "train")
    return SPLITS[word.lower()] if word else split_in_name(file.stem) or folder


def hold_out(samples: Sequence[Sample], fraction: float, seed: int = 0) -> tuple[list[Sample], list[Sample]]:
    """Hold out a random fraction of each class, and at least one sample of each class that can spare it.

    Samples of one group stay together, also across classes; without groups, the parts of one file do. The
    draw depends on (seed, names, groups) only.

    Returns:
        (kept samples, held-out samples).
    """
    rng = np.random.default_rng(seed)
    group = {x.name: group_of(x) for x in samples}
    sizes: dict[int, Counter[str]] = defaultdict(Counter)  # label -> group -> number of samples
    labels: dict[str, set[int]] = defaultdict(set)  # group -> its labels
    for x in samples:
        sizes[x.label][group[x.name]] += 1
        labels[group[x.name]].add(x.label)
    kept_groups = {label: len(groups) for label, groups in sizes.items()}
    held_out: set[str] = set()
    for label in sorted(sizes):
        names = sorted(sizes[label])
        most = max(min(sizes[label].values()), round(fraction * sizes[label].total()))
        count = sum(sizes[label][name] for name in names if name in held_out)
        for name in (names[i] for i in rng.permutation(len(names))):
            fits = count + sizes[label][name] <= most
            if fits and name not in held_out and all(kept_groups[x] > 1 for x in labels[name]):
                held_out.add(name)
                count += sizes[label][name]
                for other in labels[name]:
                    kept_groups[other] -= 1
    kept = [x for x in samples if group[x.name] not in held_out]
    return kept, [x for x in samples if group[x.name] in held_out]


def group_of(sample: Sample) -> str:
    """The unit that `hold_out` keeps in one split: the group, else the file of a part, else the sample."""
    return sample.group if sample.group is not None else sample.path if sample.is_part else sample.name
