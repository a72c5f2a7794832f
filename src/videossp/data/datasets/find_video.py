"""`VideoFinder`: the video that a path, a file name or an id in an annotation means."""

import os
import posixpath
from pathlib import Path

from videossp.data.datasets.splits import SPLITS
from videossp.data.datasets.video_index import VideoIndex, VideoPath, locate, unquoted
from videossp.data.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES


class VideoFinder:
    """Finds videos below a folder.

    Args:
        videos: the folder. It is searched once, and only if a video is not where its path says.
    """

    def __init__(self, videos: Path) -> None:
        self.videos, self._index = videos, VideoIndex(videos)

    def find(self, text: str, folder: str = "") -> list[VideoPath]:
        """The videos that a text means; exactly one is right.

        - A path, relative to the folder or absolute. An absolute path that does not exist is tried below
          the folder.
        - A path or name without the suffix of a video: of a file, or of a folder of frames.
        - A name without a folder: of a file anywhere below the folder.

        Upper and lower case count, but for the suffix.

        Args:
            folder: folder below that of the videos that paths are relative to; "": none.
        """
        found = self._located(text, folder)
        if found and (not os.path.isdir(found[0].path) or _has_images(found[0].path)):
            return found
        path = posixpath.normpath(unquoted(text).replace("\\", "/")).lstrip("/")
        if path in ("", "."):
            return []
        inside, name = posixpath.split(posixpath.join(folder, path))
        matches = [x for x in self._index.find(name) if _means(name, posixpath.basename(x.name))]
        if posixpath.dirname(path):
            matches = [x for x in matches if posixpath.dirname(x.name) == inside]
        elif folder:
            matches = [x for x in matches if x.name.startswith(f"{folder}/")]
        return matches or found

    def _located(self, text: str, folder: str) -> list[VideoPath]:
        if not folder:
            found = locate(self.videos, text)
        elif text.startswith(("/", '"', "'")):
            found = locate(self.videos, text) or locate(self.videos, f"{folder}/{unquoted(text)}")
        else:
            found = locate(self.videos, f"{folder}/{text}") if text else []
        if not found and unquoted(text).startswith(("/", "\\")):
            found = locate(self.videos, posixpath.join(folder, unquoted(text).lstrip("/\\")))
        return found


def in_split(candidates: list[VideoPath], split: str) -> list[VideoPath]:
    """Of several videos of a name those in a folder of this split; all if there are none."""
    inside = [x for x in candidates if split in {SPLITS.get(part.lower()) for part in x.name.split("/")[:-1]}]
    return inside or candidates


def _has_images(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return any(x.name.lower().endswith(IMAGE_SUFFIXES) for x in entries)


def _means(name: str, file: str) -> bool:
    """Whether a name is that of a file, or that of a file or folder without the suffix."""
    stem, suffix = os.path.splitext(file)
    if suffix.lower() not in VIDEO_SUFFIXES:
        return name == file
    wanted, given = os.path.splitext(name)
    return name == stem or (wanted == stem and given.lower() == suffix.lower())
