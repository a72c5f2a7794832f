"""Reader of HACS Clips: CSV with classname,youtube_id,subset,start,end,label, whose label is 1 or -1."""

from dataclasses import replace
from pathlib import Path

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.records import Records, Row
from videossp.data.datasets.row_splits import split_in_word
from videossp.data.datasets.sample import ReportProblem, VideoDataset
from videossp.data.datasets.table import Table, build
from videossp.errors import DataError

COLUMNS = ("youtube_id", "classname", "subset", "start", "end", "label")


def is_hacs(data: Annotation) -> bool:
    """Whether a CSV file has these columns."""
    return bool(hacs_files(data))


def hacs_files(data: Annotation) -> list[Path]:
    """The CSV files with these columns, here or one folder down."""
    return data.tables(lambda file: data.has_columns(file, *COLUMNS), below=True)


def read_hacs(data: Annotation, fold: int, report_problem: ReportProblem) -> VideoDataset:
    """Read the positive clips as parts of the downloaded videos, CLASS/v_ID.mp4.

    Negative clips (label -1) show anything but their class. They are listed in `unlabelled`, as parts of
    videos. Videos that are not on the disk are listed in `missing`.
    """
    files = hacs_files(data)
    if not files:
        raise DataError(
            f"{data.root}: no CSV file with columns {', '.join(COLUMNS)}, here or one folder down"
        )
    tables = []
    negative: dict[str, list[str]] = {}
    for file in files:
        table = data.records(file)
        rows = []
        for row, *fields in zip(table.rows, *map(table.values, COLUMNS), strict=True):
            if fields[-1] not in ("1", "-1", "0", ""):
                raise DataError(
                    f"{row.location}: label {fields[-1]!r} is neither 1 (positive) nor -1 (negative)"
                )
            if fields[-1] == "1":
                rows.append(Row(row.location, fields[:-1]))
            else:
                name = f"{fields[0]}#t={fields[3]},{fields[4]}"
                negative.setdefault(split_in_word(fields[2]) or "train", []).append(name)
        tables.append(Table(Records(file, table.location, COLUMNS[:-1], rows), ""))
    samples = build(data, tables, fold, report_problem)
    return replace(samples, unlabelled={**samples.unlabelled, **negative})
