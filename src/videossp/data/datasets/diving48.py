"""Reader of Diving48: Diving48_V2_train.json, Diving48_V2_test.json, class names in Diving48_vocab.json."""

from pathlib import Path

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.records import Records, Row
from videossp.data.datasets.sample import ReportProblem, VideoDataset
from videossp.data.datasets.table import Table, build
from videossp.data.datasets.text import read_json
from videossp.errors import DataError

LISTS = ("Diving48_V2_train.json", "Diving48_V2_test.json")
VOCABULARY = "Diving48_vocab.json"


def is_diving48(data: Annotation) -> bool:
    """Whether the training list is there."""
    return data.home(LISTS[0]) is not None


def read_diving48(data: Annotation, fold: int, report_problem: ReportProblem) -> VideoDataset:
    """Read both splits.

    A class is named by its four elements: "Back 15som 05Twis FREE". Without the vocabulary its number is its
    name. The videos are cut to the dives, so start_frame and end_frame, which cover them, are not read.
    """
    home = data.home(LISTS[0])
    if home is None:
        raise DataError(f"{data.root}: no {LISTS[0]}, here or one folder down")
    names = read_vocabulary(home / VOCABULARY)
    tables = []
    for file in (x for x in map(home.joinpath, LISTS) if x.is_file()):
        table = data.records(file)
        rows = []
        for row, video, label in zip(
            table.rows, table.values("vid_name"), table.values("label"), strict=True
        ):
            if not video or not label.isdecimal() or (names and int(label) >= len(names)):
                raise DataError(f"{row.location}: no vid_name, or label {label!r} is not a class number")
            rows.append(Row(row.location, [video, names[int(label)] if names else "", label]))
        tables.append(Table(Records(file, str(file), ["vid_name", "class_name", "class_id"], rows), ""))
    return build(data, tables, fold, report_problem)


def read_vocabulary(file: Path) -> list[str]:
    """The class names in the order of their numbers; [] if there is no such file.

    Raises:
        DataError: it is no list of lists of words.
    """
    vocabulary = read_json(file) if file.is_file() else []
    if not isinstance(vocabulary, list) or not all(isinstance(x, list) for x in vocabulary):
        raise DataError(f'{file}: expected [["Back", "15som", "05Twis", "FREE"], ...]')
    return [" ".join(map(str, x)) for x in vocabulary]
