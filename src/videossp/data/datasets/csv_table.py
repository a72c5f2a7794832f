"""Reader of CSV files with a header: columns path and label, and optionally split, start, end, group."""

import re
from collections.abc import Iterable

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.classes import UNLABELLED, resolve_labels
from videossp.data.datasets.lists import refuse_other_lists
from videossp.data.datasets.sample import ReportProblem, VideoDataset
from videossp.data.datasets.sample_builder import SampleBuilder
from videossp.data.datasets.splits import SPLIT_COLUMNS, split_of
from videossp.data.datasets.text import Row, read_rows
from videossp.data.datasets.video_index import locate, unquoted
from videossp.errors import DataError

PATH = ("path", "file_name", "video", "filename", "video_path")
NAME, NUMBER = ("class_name", "label", "class", "action"), ("class_id", "label_id")
START, END = ("start", "start_time", "time_start"), ("end", "end_time", "time_end")


def is_table(data: Annotation) -> bool:
    """Whether there are CSV files with such a header."""
    return bool(data.tables(has_columns))


def has_columns(header: set[str]) -> bool:
    """Whether a header has a path and a label."""
    return bool(header & set(PATH)) and bool(header & {*NAME, *NUMBER})


def read_tables(data: Annotation, fold: int, report_problem: ReportProblem) -> VideoDataset:
    """Read one CSV file, or all of a folder that have a header.

    Paths are relative to the folder of videos. The split is in a column, else in the file's name, else in the
    folder that a path starts with; the default is "train". start and end are seconds. A column of class
    numbers beside one of class names gives the order of the classes; alone, one of `CLASS_FILES` names them.
    """
    files = data.tables(has_columns)
    if not files:
        raise DataError(f"{data.root}: no CSV file whose header has columns path and label")
    refuse_other_lists(data, files)
    rows = [(file, row) for file in files for row in read_rows(file)]
    numbers = numbers_of(row for _, row in rows)
    names = {str(number): name for name, number in numbers.items()}
    labels = [row.first(NAME) or names.get(row.first(NUMBER)) or row.first(NUMBER) for _, row in rows]
    label_map = resolve_labels(set(labels), data.folder, files)
    classes, source = label_map.classes, label_map.source
    if classes is None and numbers:
        classes, source = sorted(numbers, key=lambda x: numbers[x]), "the classes with a number"
    builder = SampleBuilder(classes, source, report_problem)
    for (file, row), label in zip(rows, labels, strict=True):
        path, start, end = row.first(PATH), row.seconds(START), row.seconds(END)
        candidates = locate(data.videos, path)
        name = candidates[0].name if candidates else unquoted(path)
        if not path:
            raise DataError(f"{row.location}: the path is empty")
        if end is not None and end <= (start or 0):
            raise DataError(f"{row.location}: end {end:g} is not after start {start or 0:g}")
        builder.add(
            row.location,
            split_of(row.location, row.first(SPLIT_COLUMNS), file, name),
            candidates,
            name,
            label_map.names.get(label),
            start=start,
            end=end,
            group=row.first(("group",)) or None,
        )
    return builder.build()


def numbers_of(rows: Iterable[Row]) -> dict[str, int]:
    """Class numbers by name, from the rows that have both.

    Raises:
        DataError: a class has two numbers, or a number has two classes.
    """
    numbers: dict[str, int] = {}
    names: dict[int, str] = {}
    for row in rows:
        name, text = row.first(NAME), row.first(NUMBER)
        if name in UNLABELLED or not text:
            continue
        if not re.fullmatch(r"\d{1,9}", text):
            raise DataError(f"{row.location}: class number {text!r} is not a whole number")
        number = int(text)
        if (before := numbers.setdefault(name, number)) != number:
            raise DataError(f"{row.location}: class {name!r} is number {number} here and {before} before")
        if (other := names.setdefault(number, name)) != name:
            raise DataError(f"{row.location}: number {number} is class {name!r} here and {other!r} before")
    return numbers
