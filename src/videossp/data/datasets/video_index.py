"""Finding videos: by their path, or by their name anywhere in a tree of folders."""

import os
import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from videossp.data.datasets.text import normalised
from videossp.data.video import VIDEO_SUFFIXES
from videossp.data.video.files import is_frame_folder, is_image, is_video_file, visible
from videossp.data.video.frame_names import SINGLES, is_flow
from videossp.errors import DataError


class VideoPath(NamedTuple):
    """A video on disk: its path, and its path below the folder of videos, which names it in reports."""

    path: str
    name: str


def unquoted(text: str) -> str:
    """Text without surrounding quotes; doubled quotes inside become single ones."""
    quote = text[:1]
    if len(text) > 1 and quote in ("'", '"') and text.endswith(quote):
        return text[1:-1].replace(quote * 2, quote)
    return text


def locate(folder: Path, text: str) -> list[VideoPath]:
    """The video of a path in an annotation, relative to the folder or absolute; [] if it does not exist.

    The text is tried as it is, then without quotes, then with / for \\.
    """
    bare = unquoted(text)
    for candidate in dict.fromkeys((text, bare, bare.replace("\\", "/"))):
        name = posixpath.normpath(candidate)
        if name.startswith("/"):
            name = name.removeprefix(f"{os.path.abspath(folder)}/")
        path = os.path.join(folder, name)
        if candidate and os.path.exists(path):
            return [VideoPath(path, name)]
    return []


def walk(root: str, *, without: Iterable[str] = ()) -> Iterator[tuple[str, list[str], list[str]]]:
    """Like `os.walk`, but follow links, enter each folder once, and leave out names that are not `visible`.

    Args:
        without: folders that are not entered, when a link leads there.

    Raises:
        OSError: a folder cannot be read.
    """
    visited: set[tuple[int, int]] = set()

    def is_new(folder: str) -> bool:
        status = os.stat(folder)
        key = (status.st_dev, status.st_ino)
        known = key in visited
        visited.add(key)
        return not known

    def refuse(error: OSError) -> None:
        raise error

    for folder in (root, *without):
        is_new(folder)
    for folder, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        folders[:] = [x for x in sorted(folders) if visible(x) and is_new(os.path.join(folder, x))]
        yield folder, folders, [x for x in files if visible(x)]


def videos_below(folder: str, *, without: Iterable[str] = ()) -> tuple[list[str], list[str]]:
    """The videos below a folder, to the bottom, and the other files; each sorted by the parts of the path.

    A folder of frames is one video. One whose name says optical flow is none, if others are beside it; the
    path of such a folder ends in /.

    Args:
        without: see `walk`.

    Raises:
        DataError: many images are beside a folder of images, so that either may be the frames.
        OSError: a folder cannot be read.
    """
    videos: list[str] = []
    others: list[str] = []
    for parent, folders, files in walk(folder, without=without):
        frames = [x for x in folders if is_frame_folder(Path(parent, x))]
        images = sum(map(is_image, files))
        if frames and images > max(SINGLES, len(frames)):
            raise DataError(
                f"{parent}: {images:,} images beside a folder of images ({frames[0]}); keep the frames of a "
                "video in a folder without other folders"
            )
        flow = [x for x in frames if is_flow(x)]
        flow = flow if len(flow) < len(frames) else []
        folders[:] = [x for x in folders if x not in frames]
        for name in [*frames, *files]:
            path = os.path.join(parent, name)
            is_video = name not in flow if name in frames else is_video_file(Path(path))
            (videos if is_video else others).append(path + "/" * (name in flow))
    return sorted(videos, key=_parts), sorted(others, key=_parts)


def files_without(root: Path, names: Collection[str]) -> list[str]:
    """The names of the video files below a folder, without those of some names (see `VideoPath`), sorted."""
    files = sorted(
        posixpath.normpath(posixpath.join(os.path.relpath(folder, root), name))
        for folder, _, files in walk(str(root))
        for name in files
        if name.lower().endswith(VIDEO_SUFFIXES)
    )
    rest = [x for x in files if x not in names]
    linked = {os.path.realpath(root / x) for x in set(names).difference(files)} if rest else set()
    return [x for x in rest if os.path.realpath(root / x) not in linked]


def _parts(path: str) -> list[str]:
    return path.split(os.sep)


class VideoIndex:
    """The videos below a folder, by name. The tree is walked once, on the first search.

    Args:
        root: the folder.
        classes: class names. A video in a folder of another class than the wanted one is not found.
    """

    def __init__(self, root: Path, classes: Iterable[str] = ()) -> None:
        self.root, self.classes = root, {normalised(x) for x in classes}

    @cached_property
    def _index(self) -> dict[str, list[str]]:
        """Paths of videos and folders of frames by name, in lower case and without suffix."""
        index: dict[str, list[str]] = defaultdict(list)
        root = str(self.root)
        for folder, folders, files in walk(root):
            relative = "" if folder == root else os.path.relpath(folder, root)
            videos = [x for x in files if x.lower().endswith(VIDEO_SUFFIXES)]
            for name in videos:
                index[_stem(name)].append(f"{relative}/{name}" if relative else name)
            images = not folders and not videos and any(map(is_image, files))
            if relative and images:
                index[os.path.basename(relative).lower()].append(relative)
        return index

    def find(self, name: str, folder: str = "") -> list[VideoPath]:
        """The videos of a name.

        The name matches exactly, else in another case, else with another suffix or as a folder of frames.

        Args:
            name: name of a file or a folder of frames, without its path.
            folder: name of a folder that must be in the path, such as the class. If no video has it,
                videos outside all class folders match: some mirrors keep all videos in one folder.
        """
        matches = self._index.get(_stem(name), [])
        for form in (str, str.lower, lambda x: os.path.splitext(x)[0]):
            wanted = form(name)
            matches = [x for x in matches if form(posixpath.basename(x)) == wanted] or matches
        if folder:
            parents = {x: {normalised(part) for part in x.split("/")[:-1]} for x in matches}
            inside = [x for x in matches if normalised(folder) in parents[x]]
            matches = inside or [x for x in matches if not parents[x] & self.classes]
        if len(matches) > 1 and len({os.path.realpath(self.root / x) for x in matches}) == 1:
            matches = matches[:1]  # links to one file
        return [VideoPath(os.path.join(self.root, x), x) for x in matches]


def _stem(name: str) -> str:
    """A file's name in lower case, without the suffix of a video."""
    low = name.lower()
    return os.path.splitext(low)[0] if low.endswith(VIDEO_SUFFIXES) else low
