"""Reader of UCF101: classInd.txt, trainlist0N.txt, testlist0N.txt, and the videos in any tree."""

import re

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.classes import read_numbered_classes
from videossp.data.datasets.sample import Complain, Split, VideoDataset
from videossp.data.datasets.sample_builder import SampleBuilder
from videossp.data.datasets.text import read_lines
from videossp.data.datasets.video_index import VideoIndex, alike
from videossp.errors import DataError

FILES = ("classInd.txt", "trainlist0*.txt")
ROW = re.compile(r"((?:.+/)?([^/]+)/([^/]+\.\w+))(?:\s+(\d{1,9}))?")  # CLASS/VIDEO [NUMBER]
LISTS: tuple[tuple[Split, str], ...] = (("train", "trainlist"), ("test", "testlist"))


def is_ucf101(data: Annotation) -> bool:
    """Whether the official split files are here."""
    return data.home(*FILES) is not None


def read_ucf101(data: Annotation, fold: int, complain: Complain) -> VideoDataset:
    """The official split `fold` (1 to 3). Groups are the source videos, gNN of a class.

    Classes are in the order of classInd.txt, which counts from 1. Class folders of some mirrors differ
    in case (HandstandPushups, HandStandPushups); so do the videos' names.
    """
    home = data.home(*FILES)
    if home is None:
        raise DataError(f"{data.root}: no classInd.txt and trainlist0N.txt, here or one folder down")
    classes = read_numbered_classes(home / "classInd.txt")
    ordered = [classes[x] for x in sorted(classes)]
    by_alike = {alike(name): name for name in ordered}
    places = VideoIndex(data.videos, ordered)
    met = SampleBuilder(ordered, str(home / "classInd.txt"), complain)
    for split, stem in LISTS:
        file = home / f"{stem}{fold:02}.txt"
        if not file.is_file():
            raise DataError(f"{home}: no {file.name}; --fold is 1, 2 or 3")
        for place, line in read_lines(file):
            row = ROW.fullmatch(line.strip().replace("\\", "/"))
            if row is None:
                raise DataError(f"{place}: not CLASS/VIDEO or CLASS/VIDEO NUMBER: {line!r}")
            path, folder, name, number = row.groups()
            label = by_alike.get(alike(folder), folder)
            if number and classes.get(int(number)) != label:
                said = classes.get(int(number), "no class")
                reason = f"{place}: {path} has number {number}, which is {said} in {met.known}"
                complain("label.unknown", reason, path)
                continue
            group = re.search(r"_(g\d+)_c\d+\.", name)
            met.add(
                place,
                split,
                places.find(name, folder),
                path,
                label,
                group=f"{label}/{group[1]}" if group else None,
            )
    return met.samples()
