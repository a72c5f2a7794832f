"""Reader of UCF101: classInd.txt, trainlist0N.txt, testlist0N.txt, and the videos in any tree of folders."""

import re

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.classes import read_numbered_classes
from videossp.data.datasets.sample import ReportProblem, VideoDataset
from videossp.data.datasets.sample_builder import SampleBuilder
from videossp.data.datasets.splits import Split
from videossp.data.datasets.text import normalised, read_lines
from videossp.data.datasets.video_index import VideoIndex
from videossp.errors import DataError

FILES = ("classInd.txt", "trainlist0*.txt")
ROW = re.compile(r"((?:.+/)?([^/]+)/([^/]+\.\w+))(?:\s+(\d{1,9}))?")  # CLASS/VIDEO [NUMBER]
LISTS: tuple[tuple[Split, str], ...] = (("train", "trainlist"), ("test", "testlist"))


def is_ucf101(data: Annotation) -> bool:
    """Whether the official split files are there."""
    return data.home(*FILES) is not None


def read_ucf101(data: Annotation, fold: int, report_problem: ReportProblem) -> VideoDataset:
    """Read the official split `fold` (1 to 3). Groups are the source videos, gNN of a class.

    Classes are in the order of classInd.txt, which counts from 1. In some mirrors the names of class folders
    and videos differ in case (HandstandPushups, HandStandPushups).
    """
    home = data.home(*FILES)
    if home is None:
        raise DataError(f"{data.root}: no classInd.txt and trainlist0N.txt, here or one folder down")
    class_file = home / "classInd.txt"
    by_number = read_numbered_classes(class_file)
    classes = [by_number[x] for x in sorted(by_number)]
    by_normalised = {normalised(name): name for name in classes}
    videos = VideoIndex(data.videos, classes)
    builder = SampleBuilder(classes, str(class_file), report_problem)
    for split, stem in LISTS:
        file = home / f"{stem}{fold:02}.txt"
        if not file.is_file():
            raise DataError(f"{home}: no {file.name}; --fold is 1, 2 or 3")
        for location, line in read_lines(file):
            row = ROW.fullmatch(line.strip().replace("\\", "/"))
            if row is None:
                raise DataError(f"{location}: not CLASS/VIDEO or CLASS/VIDEO NUMBER: {line!r}")
            path, folder, name, number = row.groups()
            label = by_normalised.get(normalised(folder), folder)
            if number and by_number.get(int(number)) != label:
                named = by_number.get(int(number), "no class")
                reason = f"{location}: {path} has number {number}, which is {named} in {class_file}"
                report_problem("label.unknown", reason, path)
                continue
            group = re.search(r"_(g\d+)_c\d+\.", name)
            builder.add(
                location,
                split,
                videos.find(name, folder),
                path,
                label,
                group=f"{label}/{group[1]}" if group else None,
            )
    return builder.build()
