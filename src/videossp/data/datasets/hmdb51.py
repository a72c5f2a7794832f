"""Reader of HMDB51: CLASS_test_splitN.txt with codes 0, 1, 2, and the videos in any tree of folders."""

import re
from pathlib import Path

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.sample import ReportProblem, VideoDataset
from videossp.data.datasets.sample_builder import SampleBuilder
from videossp.data.datasets.splits import Split
from videossp.data.datasets.text import read_lines
from videossp.data.datasets.video_index import VideoIndex
from videossp.errors import DataError

FILES = "*_test_split[123].txt"
CODES: dict[str, Split | None] = {"0": None, "1": "train", "2": "test"}  # 0: in neither, by design


def is_hmdb51(data: Annotation) -> bool:
    """Whether the official split files of at least two classes are there."""
    home = data.home(FILES)
    return home is not None and len(classes_of(home)) > 1


def classes_of(home: Path) -> set[str]:
    """Classes that have a split file."""
    return {x.name.rsplit("_", 2)[0] for x in home.glob(FILES)}


def read_hmdb51(data: Annotation, fold: int, report_problem: ReportProblem) -> VideoDataset:
    """Read the official split `fold` (1 to 3): for each class 70 training and 30 test videos.

    The class is in the name of the split file. Names of videos contain #, (, &, ; and !. Groups are the films
    that the videos of a class were cut from: SOURCE_CLASS_... in their names.
    """
    home = data.home(FILES)
    if home is None:
        raise DataError(f"{data.root}: no CLASS_test_splitN.txt, here or one folder down")
    end = f"_test_split{fold}.txt"
    classes = sorted(x.name.removesuffix(end) for x in home.glob(f"*{end}"))
    if not classes:
        raise DataError(f"{home}: no CLASS{end}; --fold is 1, 2 or 3")
    if missing := classes_of(home).difference(classes):
        raise DataError(f"{home}: no {min(missing)}{end}")
    videos = VideoIndex(data.videos, classes)
    builder = SampleBuilder(classes, "the names of the split files", report_problem)
    for label in classes:
        for location, line in read_lines(home / f"{label}{end}"):
            row = re.fullmatch(r"(.+?)\s+([012])", line.strip())
            if row is None:
                raise DataError(f"{location}: not VIDEO CODE with code 0, 1 or 2: {line!r}")
            name, split = row[1], CODES[row[2]]
            if split:
                source, separator, _ = name.rpartition(f"_{label}_")
                group = f"{label}/{source}" if separator else None
                builder.add(location, split, videos.find(name, label), f"{label}/{name}", label, group=group)
    return builder.build()
