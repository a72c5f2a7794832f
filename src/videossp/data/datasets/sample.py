"""`Sample` is one labelled video, `VideoDataset` all of them by split."""

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
        name: path relative to the data set's root, used in reports; a part of a video has its seconds at the
            end, as "a.mp4#t=1.5,4".
        label: index into the data set's classes.
        start, end: the part of the file in seconds, [start, end); None: from its start, to its end.
        group: samples with the same group (a person, a source video) must be in the same split.
    """

    path: str
    name: str
    label: int
    start: float | None = None
    end: float | None = None
    group: str | None = None

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
        ignored: files in the folders that are no videos.
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

    def all_samples(self) -> list[tuple[str, Sample]]:
        """(split, sample), split by split."""
        return [(split, sample) for split, members in self.splits.items() for sample in members]


def refuse(check: str, message: str, video: str = "") -> None:
    """Raise a DataError for any problem of an annotation; the default of `read_data`."""
    raise DataError(message)
