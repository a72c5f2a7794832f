"""The files that a data set does not use: their numbers and names, for every command."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from videossp.data.datasets.sample import VideoDataset
from videossp.data.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from videossp.data.video.files import SOURCE_SUFFIXES, names_in
from videossp.errors import DataError

SHOWN = 3  # names in a line
LISTED = 10  # names in JSON
# Files that people keep beside videos, and that are surely none.
# fmt: off
SIDECAR_SUFFIXES = (
    *IMAGE_SUFFIXES,
    ".svg", ".ico", ".psd", ".thm", ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml",
    ".toml", ".ini", ".md", ".rst", ".html", ".htm", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".log",
    ".lst", ".list", ".labels", ".srt", ".vtt", ".ass", ".ssa", ".sub", ".idx", ".nfo", ".npy", ".npz",
    ".pkl", ".pickle", ".pt", ".pth", ".mat", ".h5", ".hdf5", ".parquet", ".py", ".ipynb", ".sh", ".bat",
    ".lnk", ".url", ".db", ".md5", ".sha256", ".wav", ".mp3", ".m4a", ".aac", ".flac", ".opus",
)
# fmt: on
SIDECARS = {"readme", "license", "licence", "copying", "makefile", "authors", "citation"}


class LeftOut(NamedTuple):
    """One group of files or videos that are not used.

    Attributes:
        reason: why they are not used, in the singular for one, else in the plural.
        names: their names.
    """

    reason: str
    names: Sequence[str]

    @property
    def line(self) -> str:
        """Number, reason and the first names."""
        more = f" and {len(self.names) - SHOWN:,} more" if len(self.names) > SHOWN else ""
        return f"{len(self.names):,} {self.reason} ({', '.join(self.names[:SHOWN])}{more})"


def left_out(data: VideoDataset) -> list[LeftOut]:
    """Everything that a data set leaves out. Folders of frames are listed again for this."""
    return [
        *_sort_of("video that is listed but not there", "videos that are listed but not there", data.missing),
        *not_videos(data.ignored),
        *_sort_of(
            "picture not used as a frame",
            "pictures not used as frames",
            pictures_beside_frames(data),
        ),
        *(
            x
            for split, names in data.unlabelled.items()
            for x in _sort_of(
                f"video without a label in {split}", f"videos without a label in {split}", names
            )
        ),
    ]


def not_videos(names: Sequence[str]) -> list[LeftOut]:
    """Files and folders that are not used as videos of a class."""
    loose = [x for x in names if has_no_class(x)]
    folders = [x for x in names if x.endswith("/")]
    others = [x for x in names if not has_no_class(x) and not x.endswith("/")]
    return [
        *_sort_of("video that is in no class", "videos that are in no class", loose),
        *_sort_of("folder of images that is not used", "folders of images that are not used", folders),
        *_sort_of("file that is not a video", "files that are not videos", others),
    ]


def has_no_class(name: str) -> bool:
    """Whether a file that is left out is a video, so that only its class is missing."""
    return name.lower().endswith(VIDEO_SUFFIXES) and not name.lower().endswith(SOURCE_SUFFIXES)


def left_out_lines(data: VideoDataset) -> list[str]:
    """What a data set leaves out, in a line for each sort."""
    return [f"left out: {x.line}" for x in left_out(data)]


def left_out_summary(data: VideoDataset) -> list[dict[str, object]]:
    """What a data set leaves out, for JSON: the number of each sort, and the first names."""
    return [
        {"reason": x.reason, "count": len(x.names), "names": list(x.names[:LISTED])} for x in left_out(data)
    ]


def doubtful(names: Iterable[str]) -> list[str]:
    """Those of the files left out that may be videos after all: all but annotations, pictures, sound."""
    surely_none = (*SIDECAR_SUFFIXES, *SOURCE_SUFFIXES)
    files = [x for x in names if not x.lower().endswith(surely_none)]
    return [x for x in files if Path(x).name.lower() not in SIDECARS]


def frame_folders(data: VideoDataset) -> dict[str, str]:
    """Path by name of the videos that are folders of frames; parts of one count once."""
    names = {x.path: re.sub("#(t|frames)=[^#/]*$", "", x.name) for _, x in data.all_samples()}
    return {name: path for path, name in names.items() if os.path.isdir(path)}


def pictures_beside_frames(data: VideoDataset) -> list[str]:
    """The names of images in folders of frames that are not used as frames, such as covers."""
    return [f"{name}/{x}" for name, path in frame_folders(data).items() for x in pictures_in(path)]


def pictures_in(folder: str) -> list[str]:
    """The images in a folder of frames that are not used as frames; [] if its names cannot be understood."""
    try:
        return names_in(Path(folder)).others
    except DataError:
        return []  # reported where the frames are read


def _sort_of(one: str, several: str, names: Sequence[str]) -> list[LeftOut]:
    return [LeftOut(one if len(names) == 1 else several, names)] if names else []
