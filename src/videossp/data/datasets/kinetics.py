"""Reader of Kinetics: CSV files with a column youtube_id, videos ID_START_END.mp4; many may be missing."""

import posixpath
from pathlib import Path

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.columns import SPLITS
from videossp.data.datasets.parts import seconds_of
from videossp.data.datasets.sample import ReportProblem, VideoDataset
from videossp.data.datasets.sample_builder import SampleBuilder
from videossp.data.datasets.splits import split_of
from videossp.data.datasets.video_index import VideoIndex
from videossp.errors import DataError


def is_kinetics(data: Annotation) -> bool:
    """Whether a CSV file has the columns of Kinetics."""
    return bool(kinetics_files(data))


def kinetics_files(data: Annotation) -> list[Path]:
    """The CSV files with the columns of Kinetics, here or one folder down."""
    return data.tables(
        lambda file: data.has_columns(file, "youtube_id", "time_start", "time_end"), below=True
    )


def read_kinetics(data: Annotation, fold: int, report_problem: ReportProblem) -> VideoDataset:
    """Read every CSV file of the folder; the split is in a column, else in the file's name.

    Class folders may have blanks or underscores in their names, or be absent. Many videos no longer exist:
    those that are not on the disk are listed in `missing` and are no error. Groups are the source videos.
    """
    files = kinetics_files(data)
    if not files:
        columns = "youtube_id, time_start and time_end"
        raise DataError(f"{data.root}: no CSV file with columns {columns}, here or one folder down")
    videos = VideoIndex(data.videos)
    builder = SampleBuilder(None, "", report_problem)
    missing, rows = [], 0
    for file in files:
        table = data.records(file)
        fields = [table.values(x) for x in ("youtube_id", "time_start", "time_end", "label")]
        for row, word, identity, first, last, label in zip(
            table.rows, table.values(*SPLITS), *fields, strict=True
        ):
            rows += 1
            start = seconds_of(row.location, "time_start", first)
            end = seconds_of(row.location, "time_end", last)
            if not identity or start is None or end is None:
                raise DataError(f"{row.location}: youtube_id, time_start or time_end is empty")
            split = split_of(row.location, word, file)
            name = f"{identity}_{int(start):06}_{int(end):06}"
            candidates = videos.find(name, label)
            # Ids are case-sensitive.
            candidates = [x for x in candidates if posixpath.basename(x.name).startswith(identity)]
            if candidates:
                builder.add(row.location, split, candidates, name, label or None, group=identity)
            else:
                missing.append(f"{name}.mp4")
    if len(missing) == rows:
        raise DataError(f"{data.root}: none of its {rows} videos is in {data.videos}")
    return builder.build(missing=tuple(dict.fromkeys(missing)))
