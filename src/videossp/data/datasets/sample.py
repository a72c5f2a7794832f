"""`Sample` is one labelled video, `VideoDataset` all of them by split."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from videossp.errors import DataError

# Called with (id of a check in `doctor.checks.CHECKS`, one line with file and line, name of the video).
ReportProblem = Callable[[str, str, str], None]


@dataclass(frozen=True)
class Sample:
    """One labelled video.

    Attributes:
        path: the file, or the folder of frames.
        name: path relative to the data set's root, used in reports; a part of a video has its seconds or its
            frames at the end, as "a.mp4#t=1.5,4" or "a.mp4#frames=0,6".
        label: index into the data set's classes.
        start, end: the part of the file in seconds, [start, end); None: from its start, to its end.
        frames: (first, stop) in place of start and end: the frames from number `first` on and before
            `stop`, counted from 0.
        group: samples with the same group (a person, a source video) must be in the same split.
    """

    path: str
    name: str
    label: int
    start: float | None = None
    end: float | None = None
    group: str | None = None
    frames: tuple[int, int] | None = None

    @property
    def is_part(self) -> bool:
        """Whether it is a part of a file."""
        return self.part != (None, None, None)

    @property
    def part(self) -> tuple[float | None, float | None, tuple[int, int] | None]:
        """(start, end, frames): equal for two samples that are the same part of a file."""
        return self.start, self.end, self.frames

    def overlaps(self, other: "Sample") -> bool:
        """Whether the parts of two samples of one file overlap.

        It is unknown for seconds and frame numbers; then they count as overlapping.
        """
        if self.frames and other.frames:
            return self.frames[0] < other.frames[1] and other.frames[0] < self.frames[1]
        if self.frames or other.frames:
            return True
        end, other_end = (math.inf if x.end is None else x.end for x in (self, other))
        return (self.start or 0) < other_end and (other.start or 0) < end

    @property
    def base_name(self) -> str:
        """The file's name up to its first dot, which published code uses as the id of a video."""
        return PurePosixPath(self.name).name.split(".")[0]


@dataclass(frozen=True)
class VideoDataset:
    """A data set.

    Attributes:
        classes: class names; a label is an index into them.
        splits: samples by "train", "val", "test".
        ignored: files and folders of images that are not used as videos; names of folders end in /.
        missing: listed videos that are not on the disk, in data sets where this is usual (Kinetics).
        unlabelled: names of videos without a label by split, as in published test splits.
        origin: the arguments of `read_data` that gave this data set, for a run's config.
    """

    classes: tuple[str, ...]
    splits: dict[str, list[Sample]]
    ignored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unlabelled: Mapping[str, Sequence[str]] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.classes, str):
            raise ValueError(f"classes must be a list of names, got the str {self.classes!r}")

    def all_samples(self) -> list[tuple[str, Sample]]:
        """(split, sample), split by split."""
        return [(split, sample) for split, members in self.splits.items() for sample in members]


def refuse(check: str, message: str, video: str = "") -> None:
    """Raise a DataError for any problem of an annotation; the default of `read_data`."""
    raise DataError(message)
