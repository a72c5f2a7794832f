"""Reader of Kinetics: CSV files with youtube_id, videos ID_START_END.mp4; what is missing is listed."""

import posixpath

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.sample import Complain, VideoDataset
from videossp.data.datasets.sample_builder import SampleBuilder
from videossp.data.datasets.text import SPLIT, read_rows, split_of
from videossp.data.datasets.video_index import VideoIndex
from videossp.errors import DataError


def is_kinetics(data: Annotation) -> bool:
    """Whether a CSV file has a column youtube_id."""
    return bool(data.tables(has_ids, down=True))


def has_ids(header: set[str]) -> bool:
    """Whether this is the header of a Kinetics file."""
    return "youtube_id" in header


def read_kinetics(data: Annotation, fold: int, complain: Complain) -> VideoDataset:
    """Every CSV file of the folder; the split is that of the column, else that of the file's name.

    Class folders may have blanks or underscores, or be absent. Many of the videos no longer exist: what
    the disk lacks is in `missing`, and no error. Groups are the videos that clips were cut from.
    """
    files = data.tables(has_ids, down=True)
    if not files:
        raise DataError(f"{data.root}: no CSV file with a column youtube_id, here or one folder down")
    places = VideoIndex(data.videos)
    met = SampleBuilder(None, "", complain)
    missing, rows = [], 0
    for file in files:
        for row in read_rows(file):
            rows += 1
            identity, label = row.cells["youtube_id"], row.first(("label",))
            start, end = row.seconds(("time_start",)), row.seconds(("time_end",))
            if not identity or start is None or end is None:
                raise DataError(f"{row.place}: youtube_id, time_start or time_end is empty")
            split = split_of(row.place, row.first(SPLIT), file)
            name = f"{identity}_{int(start):06}_{int(end):06}"
            found = places.find(name, label)
            found = [x for x in found if posixpath.basename(x.name).startswith(identity)]  # case matters
            if found:
                met.add(row.place, split, found, name, label or None, group=identity)
            else:
                missing.append(f"{name}.mp4")
    if len(missing) == rows:
        raise DataError(f"{data.root}: of {rows} videos named there, none is in {data.videos}")
    return met.samples(missing=tuple(dict.fromkeys(missing)))
