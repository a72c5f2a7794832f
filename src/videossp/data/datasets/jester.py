"""Reader of Jester and of Something-Something V1: lists ID;CLASS, and videos that are folders of frames."""

from pathlib import Path

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.sample import ReportProblem, VideoDataset
from videossp.data.datasets.sample_builder import SampleBuilder
from videossp.data.datasets.splits import Split
from videossp.data.datasets.text import read_lines
from videossp.data.datasets.video_index import VideoIndex
from videossp.errors import DataError

PREFIXES = ("jester-v1-", "something-something-v1-")
SPLITS: tuple[tuple[Split, str], ...] = (("train", "train"), ("val", "validation"), ("test", "test"))


def is_jester(data: Annotation) -> bool:
    """Whether the training list of such a set is there."""
    return find_lists(data) is not None


def find_lists(data: Annotation) -> tuple[Path, str] | None:
    """(folder, prefix of the file names) of the lists, here or one folder down."""
    for prefix in PREFIXES:
        if home := data.home(f"{prefix}train.csv"):
            return home, prefix
    return None


def read_jester(data: Annotation, fold: int, report_problem: ReportProblem) -> VideoDataset:
    """Read all splits. Classes are in the order of the file of labels, else sorted.

    The test list has ids only: its videos are unlabelled.
    """
    lists = find_lists(data)
    if lists is None:
        raise DataError(f"{data.root}: no {PREFIXES[0]}train.csv, here or one folder down")
    home, prefix = lists
    class_file = home / f"{prefix}labels.csv"
    classes = [x.strip() for _, x in read_lines(class_file)] if class_file.is_file() else None
    videos = VideoIndex(data.videos)
    builder = SampleBuilder(classes, str(class_file), report_problem)
    for split, stem in SPLITS:
        file = home / f"{prefix}{stem}.csv"
        for location, line in read_lines(file) if file.is_file() else []:
            name, _, label = (x.strip() for x in line.partition(";"))
            if not name or (not label and split != "test"):
                raise DataError(f"{location}: not ID;CLASS: {line!r}")
            builder.add(location, split, videos.find(name), name, label or None)
    return builder.build()
