"""Reader of list files without a header: PATH LABEL, FOLDER FRAMES LABEL, or FOLDER START FRAMES LABEL."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.classes import resolve_labels
from videossp.data.datasets.find_video import VideoFinder, in_split
from videossp.data.datasets.records import is_json
from videossp.data.datasets.sample import ReportProblem, VideoDataset
from videossp.data.datasets.sample_builder import SampleBuilder
from videossp.data.datasets.splits import Split, split_in_name, split_of
from videossp.data.datasets.text import head_of, read_lines
from videossp.data.datasets.video_index import VideoPath, files_without, locate, unquoted
from videossp.data.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from videossp.data.video.files import images_of
from videossp.errors import DataError

FOLD = re.compile(r"(?:split|fold)[_-]?(\d{1,9})", re.IGNORECASE)  # ucf101_train_split_1_videos.txt
# Lines are divided from the right, because paths contain blanks and commas. " " stands for any blanks.
SEPARATORS = (",", " ", "\t", ";", "|")
NO_LABEL = ""  # the separator of lines that are only a path
INTEGERS = re.compile(r"(.+?)((?:[\s,;|]+\d{1,9})+)")  # a path and the numbers after it
NUMBER = r"[\s,;|]+(\d{1,9})"
TRIED = 50  # lines whose videos are looked for, to tell numbers from the ends of paths


class Line(NamedTuple):
    """A line of a list.

    Attributes:
        location: "FILE:LINE".
        path: the video.
        label: its label.
        frames: the listed number of frames of a folder, or 0.
        first: the listed number of the part's first frame, from 0; None: the line has none.
    """

    location: str
    path: str
    label: str
    frames: int = 0
    first: int | None = None


def is_lists(data: Annotation) -> bool:
    """Whether the file is a list, or the folder has a list with a split in its name and a video in line 1."""
    if data.root.is_file():
        return division(first_entry(data.root, data.videos), data.finder) is not None
    return any(
        names_video(first_entry(x, data.videos), data) for paths in by_split(data).values() for x in paths
    )


def by_split(data: Annotation) -> dict[Split, list[Path]]:
    """The files of a folder that may be lists: those with a split in their names."""
    files: dict[Split, list[Path]] = {}
    for path in data.files:
        if not is_json(path) and (split := split_in_name(path.stem)):
            files.setdefault(split, []).append(path)
    return files


def names_video(line: str, data: Annotation) -> bool:
    """Whether a line starts with the path of a video. Plain text does not, but may end in a number, too."""
    if any("/" in x for x in paths_in(line)) or is_listed(line, data.videos):
        return True
    if (separator := division(line, data.finder)) is None:
        return False
    return any(map(data.finder.find, (divide(line, separator)[0], *paths_in(line))))


def is_listed(line: str, videos: Path) -> bool:
    """Whether a line starts with the name of a video file, or with a path that exists."""
    return any(has_video_suffix(x) or locate(videos, x) for x in paths_in(line))


def paths_in(line: str) -> list[str]:
    """What may be the path in a line: with the numbers before the label, and without; [] if it is no list."""
    if (separator := division(line)) is None:
        return []
    paths = [divide(line, separator)[0]]
    while len(shorter := re.sub(r"[\s,;|]+\d+$", "", paths[-1])) < len(paths[-1]):
        paths.append(shorter)
    return paths


def is_comment(line: str, videos: Path) -> bool:
    """Whether a line is a comment: it starts with # and names no video, or one that exists without the #."""
    if not line.startswith("#"):
        return False
    paths = paths_in(line)
    if any(locate(videos, x) for x in paths):
        return False
    return not has_video_suffix(paths[-1] if paths else "") or any(
        locate(videos, x.lstrip("# ")) for x in paths
    )


def first_entry(file: Path, videos: Path) -> str:
    """The first line that is neither blank nor a comment; "" if there is none."""
    lines = (x.strip() for x in head_of(file))
    return next((x for x in lines if x and not is_comment(x, videos)), "")


def choose(data: Annotation, fold: int) -> list[Path]:
    """One list for each split. Of several lists (split_1, split_2 of mmaction2) it is that of the fold.

    Raises:
        DataError: the fold has no list, or several lists are possible.
    """
    # A file that is no list is taken only if the split has no other, and then gives an error.
    candidates = {
        split: [x for x in paths if division(first_entry(x, data.videos), data.finder) is not None] or paths
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


def divide(line: str, separator: str) -> tuple[str, str]:
    """The path and the label of a line; ("", "") if it has no separator."""
    if separator == NO_LABEL:
        return line.strip(), "-1"
    fields = [x.strip() for x in line.rsplit(None if separator == " " else separator, 1)]
    return (fields[0], fields[1]) if len(fields) == 2 else ("", "")


def division(line: str, finder: VideoFinder | None = None) -> str | None:
    """The separator of path and label in a list's lines, from one of them; None: no list.

    Args:
        finder: finds the videos of names without a suffix.
    """
    pairs = {x: pair for x in SEPARATORS if all(pair := divide(line, x))}
    for separator, (_, label) in pairs.items():
        if re.fullmatch(r"-?\d+", unquoted(label)):
            return separator
    for separator, (path, _) in pairs.items():
        if has_video_suffix(path):
            return separator
    for separator, (path, _) in pairs.items() if finder else ():
        if separator != " " and finder and finder.find(path):
            return separator
    return NO_LABEL if has_video_suffix(line) else None


def has_video_suffix(path: str) -> bool:
    """Whether the path in a line has the suffix of a video."""
    return unquoted(path.strip()).lower().endswith(VIDEO_SUFFIXES)


def read_lists(data: Annotation, fold: int, report_problem: ReportProblem) -> VideoDataset:
    """Read lists of SlowFast, VideoMAE, VideoMamba, SSP (PATH LABEL), TSN or mmaction2 (FOLDER FRAMES LABEL).

    Paths are relative to the folder of videos. Label -1, or no label, means unlabelled. Other labels are
    class names or, if all are integers, class numbers; one of `CLASS_FILES` beside the list names these, else
    the numbers are the names. Lines FOLDER START FRAMES LABEL name a part, whose first frame START counts
    from 0.
    """
    files = [data.root] if data.root.is_file() else choose(data, fold)
    if not files:
        raise DataError(f"{data.root}: no list of PATH LABEL with train, val or test in its name")
    other_folds = {x for paths in by_split(data).values() for x in paths}
    refuse_other_lists(data, [*files, *other_folds])
    lines = [(file, line) for file in files for line in read_list(file, data.finder)]
    label_map = resolve_labels({line.label for _, line in lines}, data.folder, files)
    builder = SampleBuilder(label_map.classes, label_map.source, report_problem)
    for file, line in lines:
        candidates = data.finder.find(line.path)
        if len(candidates) > 1:
            candidates = in_split(candidates, split_in_name(file.stem) or "train")
        name = candidates[0].name if candidates else unquoted(line.path)
        refuse_picture(line.location, name)
        frames = None if line.first is None else (line.first, line.first + line.frames)
        if candidates and (line.frames or frames):
            frames = check_frames(line, candidates[0], report_problem) or frames
        split, label = split_of("", "", file, name), label_map.names.get(line.label)
        builder.add(line.location, split, candidates, name, label, frames=frames)
    ignored = files_without(data.videos, builder.listed) if data.root.is_dir() else []
    return builder.build(ignored=ignored)


def check_frames(line: Line, video: VideoPath, report_problem: ReportProblem) -> tuple[int, int] | None:
    """Report a folder of frames that has not as many as listed.

    Returns:
        (0, number of frames) if only this number tells which of the images are the frames; else None.

    Raises:
        DataError: it is no folder, or the part has no frame of it.
    """
    if not os.path.isdir(video.path):
        raise DataError(several_numbers(line.location, f"{line.path} {line.frames} {line.label}"))
    if line.first is not None and not line.frames:
        raise DataError(several_labels(line))
    try:
        count = len(images_of(Path(video.path)))
    except DataError:
        try:
            images_of(Path(video.path), line.frames)
        except DataError as error:
            report_problem("file.unreadable", f"{line.location}: {error}", video.name)
            return None
        return (0, line.frames) if line.first is None else None
    if line.first is None and count != line.frames:
        reason = f"{line.location}: {video.name} has {count} frames, not {line.frames}"
        report_problem("file.truncated", reason, video.name)
    elif line.first is not None and count <= line.first:
        raise DataError(several_labels(line))
    elif line.first is not None and count < line.first + line.frames:
        last = line.first + line.frames
        reason = f"{line.location}: {video.name} has {count} frames, the part ends after {last}"
        report_problem("file.truncated", reason, video.name)
    return None


def refuse_other_lists(data: Annotation, used: Sequence[Path]) -> None:
    """Refuse a list that is not used: its videos would be left out silently.

    Raises:
        DataError: another text file in the folder is a list, too.
    """
    for file in (x for x in data.files if x not in used and not is_json(x)):
        if is_listed(first_entry(file, data.videos), data.videos):
            raise DataError(
                f"{file}: a list as well, beside {used[0].name}; give the one to read, remove it, or write "
                "train, val or test in its name"
            )


def refuse_picture(location: str, path: str) -> None:
    """Refuse a picture in place of a video: lists with a line for each frame are not read.

    Raises:
        DataError: the path has the suffix of an image.
    """
    if path.lower().endswith(IMAGE_SUFFIXES):
        raise DataError(
            f"{location}: {path} is a picture; list the folder of the frames once, not each frame"
        )


def several_numbers(location: str, line: str) -> str:
    """The message for numbers between the path of a file and its label."""
    return (
        f"{location}: {line!r} has several numbers after a video file: several labels of a video are not "
        "supported, and a number of frames is only for folders of frames; write PATH LABEL"
    )


def several_labels(line: Line) -> str:
    """The message for a part without frames, as which FOLDER FRAMES LABEL LABEL would be read."""
    return (
        f"{line.location}: no frame of {line.path} is in a part of {line.frames} frames from {line.first} on "
        "(FOLDER START FRAMES LABEL); several labels of a video are not supported"
    )


def read_list(file: Path, finder: VideoFinder) -> list[Line]:
    """The lines of a list.

    Raises:
        DataError: a line is not like the first one.
    """
    videos = finder.videos
    lines = [(location, line.strip()) for location, line in read_lines(file)]
    lines = [x for x in lines if not is_comment(x[1], videos)]
    if not lines:
        raise DataError(f"{file}: the file has only comments")
    separator = division(lines[0][1], finder)
    pairs = []
    for location, line in lines:
        path, label = ("", "") if separator is None else divide(line, separator)
        if not path or not label:
            raise DataError(f"{location}: not PATH LABEL or PATH,LABEL: {line!r}")
        if after_file := numbers_after_file(path, videos):
            # PATH 0 LABEL is written for VideoMAE. Other numbers are labels, or a number of frames.
            between = r"\s+" if separator in (" ", "\t", None) else rf"\s*{re.escape(separator)}\s*"
            if not re.fullmatch(f"{between}0", after_file[1]):
                raise DataError(several_numbers(location, line))
            path = after_file[0]
        pairs.append((location, line, path, label))
    count = numbers_between([path for _, _, path, _ in pairs[:TRIED]], finder)
    result = []
    for location, line, path, label in pairs:
        if has_video_suffix(path):
            result.append(Line(location, path, unquoted(label)))
            continue
        words = re.fullmatch(r"(.+?)" + NUMBER * count, path)
        if words is None:
            form = "FRAMES" if count == 1 else "START FRAMES"
            raise DataError(f"{location}: not PATH {form} LABEL as the lines before: {line!r}")
        values = [int(x) for x in words.groups()[1:]]
        first = values[0] if count == 2 else None
        result.append(Line(location, words[1], unquoted(label), values[-1] if values else 0, first))
    return result


def numbers_after_file(path: str, videos: Path) -> tuple[str, str] | None:
    """The path of a video file, and the numbers between it and the label; None: a folder, or no numbers."""
    match = INTEGERS.fullmatch(path)
    if match is None or not has_video_suffix(match[1]) or os.path.isdir(videos / unquoted(match[1])):
        return None
    return match[1], match[2]


def numbers_between(paths: Sequence[str], finder: VideoFinder) -> int:
    """How many numbers, 0 to 2, follow the paths of a list; a path may end in a number, too."""
    find: Callable[[str], list[VideoPath]]
    for find in (lambda x: locate(finder.videos, x), finder.find):
        for path in paths:
            for count in range(3):
                found = re.fullmatch(r"(.+?)" + NUMBER * count, path)
                if found and find(found[1]):
                    return count
    return int(bool(INTEGERS.fullmatch(paths[0])))
