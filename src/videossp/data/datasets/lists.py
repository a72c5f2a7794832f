"""Reader of list files without a header: PATH LABEL, or PATH FRAMES LABEL, a line for each video."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.classes import meaning_of
from videossp.data.datasets.sample import Complain, Split, VideoDataset
from videossp.data.datasets.sample_builder import SampleBuilder
from videossp.data.datasets.text import first_line, read_lines, split_named, split_of
from videossp.data.datasets.video_index import locate, unquoted
from videossp.data.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from videossp.errors import DataError

FOLD = re.compile(r"(?:split|fold)[_-]?(\d{1,9})", re.IGNORECASE)  # ucf101_train_split_1_videos.txt
Divide = Callable[[str], list[str]]
# From the right: paths hold blanks and commas.
FORMS: tuple[Divide, ...] = (lambda line: line.rsplit(",", 1), lambda line: line.rsplit(None, 1))


class Line(NamedTuple):
    """A line of a list: `place` is "FILE:LINE", `frames` how many it promises, 0 if it does not say."""

    place: str
    path: str
    frames: int
    label: str


def is_lists(data: Annotation) -> bool:
    """Whether the file is a list, or a file named after a split is one and begins with a video."""
    if data.root.is_file():
        return division(first_line(data.root)) is not None
    return any(names_video(first_line(x), data.videos) for paths in by_split(data).values() for x in paths)


def by_split(data: Annotation) -> dict[Split, list[Path]]:
    """The files of a folder that may be lists."""
    found: dict[Split, list[Path]] = {}
    for path in data.here:
        if path.suffix != ".json" and (split := split_named(path.stem)):
            found.setdefault(split, []).append(path)
    return found


def names_video(line: str, videos: Path) -> bool:
    """Whether a line begins with the path of a video: plain text may end in a number, too."""
    divide = division(line)
    path = re.sub(r"[\s,]+\d+$", "", divide(line)[0]) if divide else ""
    return is_named(path) or "/" in path or bool(locate(videos, path))


def choose(data: Annotation, fold: int) -> list[Path]:
    """The list of each split, of several (mmaction2's split_1, split_2) that of the fold."""
    # What is no list counts only where there is no other, for an error then.
    found = {
        split: [x for x in paths if division(first_line(x))] or paths
        for split, paths in by_split(data).items()
    }
    folds = {x: int(m[1]) for paths in found.values() for x in paths if (m := FOLD.search(x.stem))}
    if fold != 1 and not folds:
        raise DataError(f"{data.root}: the names of the lists tell no fold, as split_{fold} does")
    chosen = []
    for split, paths in found.items():
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
    """How a list divides its lines into path and label, told by one; None if it is no line of a list."""
    pairs = [(form, form(line)) for form in FORMS if len(form(line)) == 2]
    for form, (_, label) in pairs:
        if re.fullmatch(r"-?\d+", unquoted(label.strip())):
            return form
    for form, (path, _) in pairs:
        if is_named(path):
            return form
    return (lambda line: [line, "-1"]) if is_named(line) else None


def is_named(path: str) -> bool:
    """Whether the path of a line is, by its name, that of a video file."""
    return unquoted(path.strip()).lower().endswith(VIDEO_SUFFIXES)


def read_lists(data: Annotation, fold: int, complain: Complain) -> VideoDataset:
    """Lists of SlowFast, VideoMAE, VideoMamba, SSP (PATH LABEL) and mmaction2 (FOLDER FRAMES LABEL).

    Paths are relative to the folder of videos. Label -1, or none, is unlabelled. Labels are class names
    or, if whole numbers, those of one of `CLASS_FILES` beside the list; without one the numbers are the
    names.
    """
    files = [data.root] if data.root.is_file() else choose(data, fold)
    if not files:
        raise DataError(f"{data.root}: no list of PATH LABEL with train, val or test in its name")
    others = {x for paths in by_split(data).values() for x in paths}  # of other folds
    refuse_other_lists(data, [*files, *others])
    lines = [(file, line) for file in files for line in divided(file, data.videos)]
    meaning = meaning_of({line.label for _, line in lines}, data.folder, files)
    met = SampleBuilder(meaning.classes, meaning.source, complain)
    for file, line in lines:
        found = locate(data.videos, line.path)
        name = found[0].name if found else unquoted(line.path)
        if found and line.frames and os.path.isdir(found[0].path):
            held = sum(x.lower().endswith(IMAGE_SUFFIXES) for x in os.listdir(found[0].path))
            if held < line.frames:
                what = f"{line.place}: {name} holds {held} frames, not {line.frames}"
                complain("file.truncated", what, name)
        met.add(line.place, split_of("", "", file, name), found, name, meaning.names.get(line.label))
    return met.samples()


def refuse_other_lists(data: Annotation, read: Sequence[Path]) -> None:
    """The videos of a list that is not read would be left out in silence.

    Raises:
        DataError: a text file beside those that are read is a list, too.
    """
    for file in (x for x in data.here if x not in read and x.suffix != ".json"):
        divide = division(line := first_line(file))
        path = re.sub(r"[\s,]+\d+$", "", divide(line)[0]) if divide else ""
        if is_named(path) or (path and locate(data.videos, path)):
            raise DataError(
                f"{file}: a list as well, beside {read[0].name}; give the one to read, or remove one"
            )


def divided(file: Path, videos: Path) -> list[Line]:
    """The lines of a list."""
    lines = [(place, line.strip()) for place, line in read_lines(file)]
    divide = division(lines[0][1])
    result: list[Line] = []
    three = False  # whether lines are PATH FRAMES LABEL
    for place, line in lines:
        path, label, *_ = [*(x.strip() for x in (divide(line) if divide else ())), "", ""]
        if not path or not label:
            raise DataError(f"{place}: not PATH LABEL or PATH,LABEL: {line!r}")
        longer = re.fullmatch(r"(.+?)[\s,]+(\d{1,9})", path)
        if not result:  # told by the first line: a path may end in a number
            three = bool(longer) and not locate(videos, path)
        if three and not longer:
            raise DataError(f"{place}: not PATH FRAMES LABEL as the lines before: {line!r}")
        path, frames = (longer[1], int(longer[2])) if three and longer else (path, 0)
        result.append(Line(place, path, frames, unquoted(label)))
    return result
