"""`read_data`: detect the format of a data set and read its samples."""

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.breakfast import is_breakfast, read_breakfast
from videossp.data.datasets.diving48 import is_diving48, read_diving48
from videossp.data.datasets.folder import read_folder
from videossp.data.datasets.hacs import is_hacs, read_hacs
from videossp.data.datasets.hmdb51 import is_hmdb51, read_hmdb51
from videossp.data.datasets.jester import is_jester, read_jester
from videossp.data.datasets.kinetics import is_kinetics, read_kinetics
from videossp.data.datasets.lists import is_lists, read_lists
from videossp.data.datasets.moments import is_moments, read_moments
from videossp.data.datasets.sample import ReportProblem, VideoDataset, refuse
from videossp.data.datasets.ssv2 import is_ssv2, read_ssv2
from videossp.data.datasets.table import read_tables
from videossp.data.datasets.table_files import is_table, unread_table
from videossp.data.datasets.ucf101 import is_ucf101, read_ucf101
from videossp.errors import DataError


class Format(NamedTuple):
    """An annotation format.

    Attributes:
        detect: whether a data set has it.
        read: function (annotation, fold, report_problem) -> samples.
        folds: whether it has several splits.
        file: whether the annotation may be a single file.
    """

    detect: Callable[[Annotation], bool]
    read: Callable[[Annotation, int, ReportProblem], VideoDataset]
    folds: bool = False
    file: bool = False


# Tried in this order: special formats before general ones.
FORMATS = {
    "ucf101": Format(is_ucf101, read_ucf101, folds=True),
    "hmdb51": Format(is_hmdb51, read_hmdb51, folds=True),
    "ssv2": Format(is_ssv2, read_ssv2),
    "jester": Format(is_jester, read_jester),
    "moments": Format(is_moments, read_moments),
    "diving48": Format(is_diving48, read_diving48),
    "breakfast": Format(is_breakfast, read_breakfast, folds=True),
    "hacs": Format(is_hacs, read_hacs, file=True),
    "kinetics": Format(is_kinetics, read_kinetics, file=True),
    "csv": Format(is_table, read_tables, folds=True, file=True),
    "list": Format(is_lists, read_lists, folds=True, file=True),
    "folder": Format(lambda data: True, read_folder),
}
# fmt: off
Name = Literal[
    "auto", "ucf101", "hmdb51", "ssv2", "jester", "moments", "diving48", "breakfast", "hacs", "kinetics",
    "csv", "list", "folder",
]
# fmt: on


def read_data(
    data: str | Path,
    *,
    format: Name = "auto",
    fold: int = 1,
    videos: str | Path | None = None,
    report_problem: ReportProblem = refuse,
    least_classes: int = 2,
) -> VideoDataset:
    """Read the labelled videos of a data set.

    Args:
        data: a folder, or an annotation file. docs/data.md describes the formats.
        format: annotation format; auto: detected from the files.
        fold: which of the published splits (UCF101, HMDB51: 1 to 3; Breakfast: 1 to 4; lists with
            split_N in their names; CSV files with a column fold).
        videos: folder of the videos, if it is not that of the annotation.
        report_problem: called with each problem of the annotation; the default raises an error.
        least_classes: number of classes that the data must have. A training needs two; a test set may have
            one.

    Raises:
        DataError: the data cannot be read; the message names the file and the line.
        ValueError: an unknown format.
    """
    root, video_folder = Path(data), None if videos is None else Path(videos)
    if not root.exists():
        raise DataError(f"{root}: no such file or folder")
    if video_folder and not video_folder.is_dir():
        raise DataError(f"{video_folder}: no such folder of videos")
    # The collector would scan all rows that were read again and again: 40 % of the time for a million rows.
    collecting = gc.isenabled()
    gc.disable()
    try:
        name, samples = _read(Annotation(root, video_folder), format, fold, report_problem, least_classes)
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot be read: {error.strerror or error}") from error
    finally:
        if collecting:
            gc.enable()
    if not samples.classes and (videos_without := sum(map(len, samples.unlabelled.values()))):
        advice = "write the class after each path" if name == "list" else "write it in a column label"
        raise DataError(f"{root}: none of its {videos_without} videos has a class (format {name}); {advice}")
    if not samples.classes and name != "folder" and least_classes:
        raise DataError(f"{root}: no line names a video that exists (format {name})")
    if (count := len(samples.classes)) < least_classes:
        formats = "FOLDER/CLASS/VIDEO or FOLDER/train/CLASS/VIDEO, or one of the formats of docs/data.md"
        least = "at least two are" if least_classes > 1 else "at least one is"
        hint = level_hint(root, samples) if name == "folder" else ""
        raise DataError(f"{root}: {count} classes found, {least} needed ({formats}){hint}")
    origin = {"data": str(root.resolve()), "format": name, "fold": fold}
    origin["videos"] = video_folder and str(video_folder.resolve())
    return replace(samples, origin=origin)


def level_hint(root: Path, samples: VideoDataset) -> str:
    """A hint for a folder whose classes or videos are on another level than expected; "" if there is none."""
    folders = [x for x in samples.ignored if x.endswith("/")]
    if folders and not samples.classes:
        return f"; {root / folders[0]} has images: it is one video, whose class is the folder above it"
    inner = {x.name.split("/")[1] for _, x in samples.all_samples() if x.name.count("/") > 1}
    if len(samples.classes) == 1 and len(inner) > 1 and [*samples.splits] == ["train"]:
        return f"; if the folders in {samples.classes[0]} are the classes, give {root / samples.classes[0]}"
    return ""


def read_with_problems(data: str | Path, **options: Any) -> tuple[VideoDataset, list[tuple[str, str, str]]]:
    """Read a data set and leave out the lines with problems.

    Args:
        data, options: see `read_data`.

    Returns:
        The data set, and (check, message, video) of each problem.

    Raises:
        DataError: the data cannot be read at all; the message includes the first problem.
    """
    problems: list[tuple[str, str, str]] = []
    try:
        return read_data(data, **options, report_problem=lambda *x: problems.append(x)), problems
    except DataError as error:
        lines = [message for check, message, _ in problems if check != "class.empty"]
        if not lines:
            raise
        count = f"{len(lines):,} problem{'s' * (len(lines) > 1)}"
        raise DataError(f"{error}; {count}, the first: {lines[0]}") from error


def _read(
    data: Annotation, format: str, fold: int, report_problem: ReportProblem, least_classes: int
) -> tuple[str, VideoDataset]:
    """(name of the format, samples)."""
    if format not in (*FORMATS, "auto"):
        raise ValueError(f"no format {format!r}; the formats are auto, {', '.join(FORMATS)}")
    file = data.root.is_file()
    usable = {name: x for name, x in FORMATS.items() if x.file or not file}
    detected = format == "auto"
    if detected:
        format = next((name for name, x in usable.items() if x.detect(data)), "")
    if not format:
        reason = f"{data.root}: no known annotation format; --format is one of {', '.join(usable)}"
        raise DataError(unread_table(data) or reason)
    if format not in usable:
        raise DataError(f"{data.root}: --format {format} reads a folder, not a file")
    if fold != 1 and not FORMATS[format].folds:
        raise DataError(f"{data.root}: the format {format} has no folds; leave --fold out")
    try:
        samples = FORMATS[format].read(data, fold, report_problem)
    except DataError as error:
        if detected and format == "folder" and (unread := unread_table(data)):
            raise DataError(f"{error} ({unread})") from error
        raise
    few = len(samples.classes) < least_classes
    # The folders are no classes: an annotation that is not understood is the likely reason.
    if detected and format == "folder" and few and (unread := unread_table(data)):
        raise DataError(unread)
    paths = (x.path for _, x in samples.all_samples())
    if bad := next((x for x in paths if x.encode(errors="replace").decode() != x), None):
        raise DataError(f"{bad!a}: its name is not UTF-8; rename it")
    return format, samples
