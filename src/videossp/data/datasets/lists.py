"""Reader of list files without a header: PATH LABEL, or PATH FRAMES LABEL, on each line."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.classes import resolve_labels
from videossp.data.datasets.sample import ReportProblem, VideoDataset
from videossp.data.datasets.sample_builder import SampleBuilder
from videossp.data.datasets.splits import Split, split_in_name, split_of
from videossp.data.datasets.text import first_line, read_lines
from videossp.data.datasets.video_index import locate, unquoted
from videossp.data.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from videossp.errors import DataError

FOLD = re.compile(r"(?:split|fold)[_-]?(\d{1,9})", re.IGNORECASE)  # ucf101_train_split_1_videos.txt
Divide = Callable[[str], list[str]]
# Lines are divided from the right, because paths contain blanks and commas.
DIVISIONS: tuple[Divide, ...] = (lambda line: line.rsplit(",", 1), lambda line: line.rsplit(None, 1))


class Line(NamedTuple):
    """A line of a list: `location` is "FILE:LINE"; `frames` is the listed number of frames, or 0."""

    location: str
    path: str
    frames: int
    label: str


def is_lists(data: Annotation) -> bool:
    """Whether the file is a list, or the folder has a list with a split in its name and a video in line 1."""
    if data.root.is_file():
        return division(first_line(data.root)) is not None
    return any(names_video(first_line(x), data.videos) for paths in by_split(data).values() for x in paths)


def by_split(data: Annotation) -> dict[Split, list[Path]]:
    """The files of a folder that may be lists: those with a split in their names."""
    files: dict[Split, list[Path]] = {}
    for path in data.files:
        if path.suffix != ".json" and (split := split_in_name(path.stem)):
            files.setdefault(split, []).append(path)
    return files


def names_video(line: str, videos: Path) -> bool:
    """Whether a line starts with the path of a video. Plain text does not, but may end in a number, too."""
    divide = division(line)
    path = re.sub(r"[\s,]+\d+$", "", divide(line)[0]) if divide else ""
    return has_video_suffix(path) or "/" in path or bool(locate(videos, path))


def choose(data: Annotation, fold: int) -> list[Path]:
    """One list for each split. Of several lists (split_1, split_2 of mmaction2) it is that of the fold.

    Raises:
        DataError: the fold has no list, or several lists are possible.
    """
    # A file that is no list is taken only if the split has no other, and then gives an error.
    candidates = {
        split: [x for x in paths if division(first_line(x))] or paths
        for split, paths in by_split(data).items()
    }
    folds = {x: int(m[1]) for paths in candidates.values() for x in paths if (m := FOLD.search(x.stem))}
    if fold != 1 and not folds:
        raise DataError(f"{data.root}: no fold in the names of the lists, such as split_{fold}")
    chosen = []
    for split, paths in candidates.items():
        if any(x in folds for x in paths):
            paths = [x for x in paths if folds.get(x) == fold]
        if not paths:
            raise DataError(f"{data.root}: no list of {split} for fold {fold}")
        if len(paths) > 1:
            names = ", ".join(x.name for x in paths)
            raise DataError(f"{data.root}: several lists of {split}: {names}; name one")
        chosen.append(paths[0])
    return chosen


def division(line: str) -> Divide | None:
    """The function that divides a list's lines into path and label, from one of them; None: no list."""
    pairs = [(divide, divide(line)) for divide in DIVISIONS if len(divide(line)) == 2]
    for divide, (_, label) in pairs:
        if re.fullmatch(r"-?\d+", unquoted(label.strip())):
            return divide
    for divide, (path, _) in pairs:
        if has_video_suffix(path):
            return divide
    return (lambda line: [line, "-1"]) if has_video_suffix(line) else None


def has_video_suffix(path: str) -> bool:
    """Whether the path in a line has the suffix of a video."""
    return unquoted(path.strip()).lower().endswith(VIDEO_SUFFIXES)


def read_lists(data: Annotation, fold: int, report_problem: ReportProblem) -> VideoDataset:
    """Read lists of SlowFast, VideoMAE, VideoMamba, SSP (PATH LABEL) or mmaction2 (FOLDER FRAMES LABEL).

    Paths are relative to the folder of videos. Label -1, or no label, means unlabelled. Other labels are
    class names or, if all are integers, class numbers; one of `CLASS_FILES` beside the list names these, else
    the numbers are the names.
    """
    files = [data.root] if data.root.is_file() else choose(data, fold)
    if not files:
        raise DataError(f"{data.root}: no list of PATH LABEL with train, val or test in its name")
    other_folds = {x for paths in by_split(data).values() for x in paths}
    refuse_other_lists(data, [*files, *other_folds])
    lines = [(file, line) for file in files for line in read_list(file, data.videos)]
    label_map = resolve_labels({line.label for _, line in lines}, data.folder, files)
    builder = SampleBuilder(label_map.classes, label_map.source, report_problem)
    for file, line in lines:
        candidates = locate(data.videos, line.path)
        name = candidates[0].name if candidates else unquoted(line.path)
        if candidates and line.frames and os.path.isdir(candidates[0].path):
            count = sum(x.lower().endswith(IMAGE_SUFFIXES) for x in os.listdir(candidates[0].path))
            if count < line.frames:
                reason = f"{line.location}: {name} has {count} frames, not {line.frames}"
                report_problem("file.truncated", reason, name)
        builder.add(
            line.location, split_of("", "", file, name), candidates, name, label_map.names.get(line.label)
        )
    return builder.build()


def refuse_other_lists(data: Annotation, used: Sequence[Path]) -> None:
    """Refuse a list that is not used: its videos would be left out silently.

    Raises:
        DataError: another text file in the folder is a list, too.
    """
    for file in (x for x in data.files if x not in used and x.suffix != ".json"):
        divide = division(line := first_line(file))
        path = re.sub(r"[\s,]+\d+$", "", divide(line)[0]) if divide else ""
        if has_video_suffix(path) or (path and locate(data.videos, path)):
            raise DataError(
                f"{file}: a list as well, beside {used[0].name}; give the one to read, or remove one"
            )


def read_list(file: Path, videos: Path) -> list[Line]:
    """The lines of a list.

    Raises:
        DataError: a line is not like the first one.
    """
    lines = [(location, line.strip()) for location, line in read_lines(file)]
    divide = division(lines[0][1])
    result: list[Line] = []
    with_frames = False  # whether lines are PATH FRAMES LABEL
    for location, line in lines:
        path, label, *_ = [*(x.strip() for x in (divide(line) if divide else ())), "", ""]
        if not path or not label:
            raise DataError(f"{location}: not PATH LABEL or PATH,LABEL: {line!r}")
        frames = re.fullmatch(r"(.+?)[\s,]+(\d{1,9})", path)
        if not result:  # the first line decides: a path may end in a number, too
            with_frames = bool(frames) and not locate(videos, path)
        if with_frames and not frames:
            raise DataError(f"{location}: not PATH FRAMES LABEL as the lines before: {line!r}")
        path, count = (frames[1], int(frames[2])) if with_frames and frames else (path, 0)
        result.append(Line(location, path, count, unquoted(label)))
    return result
