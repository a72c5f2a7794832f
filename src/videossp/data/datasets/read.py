"""`read_data`: which format a data set has, and its samples."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.breakfast import is_breakfast, read_breakfast
from videossp.data.datasets.folder import read_folder
from videossp.data.datasets.hmdb51 import is_hmdb51, read_hmdb51
from videossp.data.datasets.kinetics import is_kinetics, read_kinetics
from videossp.data.datasets.lists import is_lists, read_lists
from videossp.data.datasets.sample import Complain, VideoDataset, refuse
from videossp.data.datasets.ssv2 import is_ssv2, read_ssv2
from videossp.data.datasets.table import is_table, read_tables
from videossp.data.datasets.ucf101 import is_ucf101, read_ucf101
from videossp.errors import DataError


class Format(NamedTuple):
    """A kind of annotation.

    Attributes:
        found: whether there is such a one.
        read: (annotation, fold, complain) -> samples.
        folds: whether it has several splits.
        file: whether it may be one file.
    """

    found: Callable[[Annotation], bool]
    read: Callable[[Annotation, int, Complain], VideoDataset]
    folds: bool = False
    file: bool = False


# In the order in which they are tried: the particular before the general.
FORMATS = {
    "ucf101": Format(is_ucf101, read_ucf101, folds=True),
    "hmdb51": Format(is_hmdb51, read_hmdb51, folds=True),
    "ssv2": Format(is_ssv2, read_ssv2),
    "breakfast": Format(is_breakfast, read_breakfast, folds=True),
    "kinetics": Format(is_kinetics, read_kinetics, file=True),
    "csv": Format(is_table, read_tables, file=True),
    "list": Format(is_lists, read_lists, folds=True, file=True),
    "folder": Format(lambda data: True, read_folder),
}
Name = Literal["auto", "ucf101", "hmdb51", "ssv2", "breakfast", "kinetics", "csv", "list", "folder"]


def read_data(
    data: str | Path,
    *,
    format: Name = "auto",
    fold: int = 1,
    videos: str | Path | None = None,
    complain: Complain = refuse,
) -> VideoDataset:
    """The labelled videos of a data set.

    Args:
        data: a folder, or an annotation file. What each format looks like: docs/data.md.
        format: of the annotation; auto: told by the files that are there.
        fold: which of the published splits (UCF101, HMDB51: 1 to 3; Breakfast: 1 to 4; of lists
            whose names hold split_N).
        videos: folder of the videos, if they are not where the annotation is.
        complain: what to do with a line that is wrong; by default it is an error.

    Raises:
        DataError: the data cannot be read; the message names the file and the line.
    """
    root, place = Path(data), None if videos is None else Path(videos)
    if not root.exists():
        raise DataError(f"{root}: no such file or folder")
    if place and not place.is_dir():
        raise DataError(f"{place}: no such folder of videos")
    try:
        name, samples = _read(Annotation(root, place), format, fold, complain)
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot be read: {error.strerror or error}") from error
    if len(samples.classes) < 2:
        kinds = "FOLDER/CLASS/VIDEO or FOLDER/train/CLASS/VIDEO, or one of the formats of docs/data.md"
        raise DataError(f"{root}: {len(samples.classes)} classes found, at least two are needed ({kinds})")
    origin = {"data": str(root.resolve()), "format": name, "fold": fold}
    origin["videos"] = place and str(place.resolve())
    return replace(samples, origin=origin)


def read_complaining(data: str | Path, **reading: Any) -> tuple[VideoDataset, list[tuple[str, str, str]]]:
    """What `read_data` gives, and (check, message, video) of each line that is wrong, which is left out.

    Raises:
        DataError: the data cannot be read at all; if lines are wrong, with the first of them.
    """
    complaints: list[tuple[str, str, str]] = []
    try:
        return read_data(data, **reading, complain=lambda *x: complaints.append(x)), complaints
    except DataError as error:
        if not complaints:
            raise
        raise DataError(f"{error}; {len(complaints)} complaints, the first: {complaints[0][1]}") from error


def _read(data: Annotation, format: str, fold: int, complain: Complain) -> tuple[str, VideoDataset]:
    """(name of the format, samples)."""
    if format not in (*FORMATS, "auto"):
        raise ValueError(f"no format {format!r}; there are auto, {', '.join(FORMATS)}")
    file = data.root.is_file()
    usable = {name: x for name, x in FORMATS.items() if x.file or not file}
    if format == "auto":
        format = next((name for name, x in usable.items() if x.found(data)), "")
    if not format:
        raise DataError(f"{data.root}: no known kind of annotation; --format is one of {', '.join(usable)}")
    if format not in usable:
        raise DataError(f"{data.root}: --format {format} reads a folder, not a file")
    if fold != 1 and not FORMATS[format].folds:
        raise DataError(f"{data.root}: the format {format} has no folds; leave --fold out")
    samples = FORMATS[format].read(data, fold, complain)
    if odd := [x.path for _, x in samples.every() if x.path.encode(errors="replace").decode() != x.path]:
        raise DataError(f"{odd[0]!a}: its name is not UTF-8; rename it")
    return format, samples
