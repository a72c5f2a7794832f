"""Reader of Moments in Time: trainingSet.csv and validationSet.csv, lines CLASS/VIDEO,CLASS,YES,NO."""

import re
from pathlib import Path

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.sample import ReportProblem, VideoDataset
from videossp.data.datasets.sample_builder import SampleBuilder
from videossp.data.datasets.splits import Split
from videossp.data.datasets.text import first_line, read_lines
from videossp.errors import DataError

FILES: dict[str, tuple[Split, str]] = {  # by name: the split, and the folder of its videos
    "trainingSet.csv": ("train", "training"),
    "validationSet.csv": ("val", "validation"),
}
CATEGORIES = "moments_categories.txt"  # CLASS,NUMBER
ROW = re.compile(r"([^,]+/[^,]+),([^,]+),\d+,\d+")  # the numbers are votes for and against the class


def is_moments(data: Annotation) -> bool:
    """Whether one of the lists is there."""
    return find_lists(data) is not None


def find_lists(data: Annotation) -> Path | None:
    """The folder of the lists, here or one folder down."""
    for name in FILES:
        home = data.home(name)
        if home and ROW.fullmatch(first_line(home / name).strip()):
            return home
    return None


def read_moments(data: Annotation, fold: int, report_problem: ReportProblem) -> VideoDataset:
    """Read both splits. Classes are in the order of moments_categories.txt, else sorted.

    Videos are in training/CLASS and validation/CLASS, or in CLASS.
    """
    home = find_lists(data)
    if home is None:
        raise DataError(f"{data.root}: no {' or '.join(FILES)}, here or one folder down")
    class_file = home / CATEGORIES
    classes = read_categories(class_file) if class_file.is_file() else None
    builder = SampleBuilder(classes, str(class_file), report_problem)
    for name, (split, folder) in FILES.items():
        file = home / name
        for location, line in read_lines(file) if file.is_file() else []:
            row = ROW.fullmatch(line.strip())
            if row is None:
                raise DataError(f"{location}: not CLASS/VIDEO,CLASS,YES,NO: {line!r}")
            path, label = row.groups()
            candidates = data.finder.find(path, folder) or data.finder.find(path)
            builder.add(location, split, candidates, path, label)
    return builder.build()


def read_categories(file: Path) -> list[str]:
    """The classes in the order of their numbers.

    Raises:
        DataError: a line is not CLASS,NUMBER, or a number comes twice.
    """
    numbers: dict[int, str] = {}
    for location, line in read_lines(file):
        name, _, number = line.strip().rpartition(",")
        if not name or not re.fullmatch(r"\d{1,9}", number):
            raise DataError(f"{location}: not CLASS,NUMBER: {line!r}")
        if numbers.setdefault(int(number), name) != name:
            raise DataError(f"{location}: number {number} is {numbers[int(number)]!r} before")
    return [numbers[x] for x in sorted(numbers)]
