"""`Sample`, one labelled video; `Samples`, a data set by splits; a stratified split of a class folder."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One labelled video.

    Attributes:
        path: where it lies.
        name: its path relative to the data set's root, which names it in reports.
        label: index into the data set's classes.
    """

    path: str
    name: str
    label: int


@dataclass(frozen=True)
class Samples:
    """A data set.

    Attributes:
        classes: their names; a label is an index into them.
        splits: samples by "train", "val", "test".
        ignored: files that were met and are no videos.
    """

    classes: tuple[str, ...]
    splits: dict[str, list[Sample]]
    ignored: tuple[str, ...] = ()


def split_off(samples: Sequence[Sample], share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """(kept, split off): a random `share` of each class, at least one of every class that has two.

    The draw depends on (seed, names) only.
    """
    rng = np.random.default_rng(seed)
    off: set[str] = set()
    for label in sorted({x.label for x in samples}):
        names = sorted(x.name for x in samples if x.label == label)
        take = min(len(names) - 1, max(1, round(share * len(names))))
        off.update(names[i] for i in rng.permutation(len(names))[:take])
    return [x for x in samples if x.name not in off], [x for x in samples if x.name in off]
