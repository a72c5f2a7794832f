"""Reader of Kinetics: CSV files with a column youtube_id, videos ID_START_END.mp4; many may be missing."""

import posixpath

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.sample import ReportProblem, VideoDataset
from videossp.data.datasets.sample_builder import SampleBuilder
from videossp.data.datasets.splits import SPLIT_COLUMNS, split_of
from videossp.data.datasets.text import read_rows
from videossp.data.datasets.video_index import VideoIndex
from videossp.errors import DataError


def is_kinetics(data: Annotation) -> bool:
    """Whether a CSV file has a column youtube_id."""
    return bool(data.tables(has_ids, below=True))


def has_ids(header: set[str]) -> bool:
    """Whether this is the header of a Kinetics file."""
    return "youtube_id" in header


def read_kinetics(data: Annotation, fold: int, report_problem: ReportProblem) -> VideoDataset:
    """Read every CSV file of the folder; the split is in a column, else in the file's name.

    Class folders may have blanks or underscores in their names, or be absent. Many videos no longer exist:
    those that are not on the disk are listed in `missing` and are no error. Groups are the source videos.
    """
    files = data.tables(has_ids, below=True)
    if not files:
        raise DataError(f"{data.root}: no CSV file with a column youtube_id, here or one folder down")
    videos = VideoIndex(data.videos)
    builder = SampleBuilder(None, "", report_problem)
    missing, rows = [], 0
    for file in files:
        for row in read_rows(file):
            rows += 1
            identity, label = row.cells["youtube_id"], row.first(("label",))
            start, end = row.seconds(("time_start",)), row.seconds(("time_end",))
            if not identity or start is None or end is None:
                raise DataError(f"{row.location}: youtube_id, time_start or time_end is empty")
            split = split_of(row.location, row.first(SPLIT_COLUMNS), file)
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
