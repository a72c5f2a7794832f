"""Where videos lie: by their path, or by their name wherever in a tree they are."""

import os
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

from videossp.data.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES

# Left by file systems, archives and servers; never data.
SYSTEM = ("lost+found", "__MACOSX", "@eaDir")


class Found(NamedTuple):
    """A video: where it lies, and its path below the folder of videos, which names it in reports."""

    path: str
    name: str


def visible(name: str) -> bool:
    """Whether a file or folder of this name may be data."""
    return not name.startswith(".") and name not in SYSTEM


@lru_cache(maxsize=100_000)
def alike(name: str) -> str:
    """A class or folder name without what mirrors of a data set change: case, blanks, underscores."""
    return "".join(x for x in name.lower() if x.isalnum())


def unquoted(text: str) -> str:
    """Text without the quotes around it."""
    quote = text[:1]
    if len(text) > 1 and quote in ("'", '"') and text.endswith(quote):
        return text[1:-1].replace(quote * 2, quote)
    return text


def locate(folder: Path, text: str) -> list[Found]:
    """The video of a path in an annotation, relative to the folder or absolute; none if it is not there.

    It is taken as it is written or, where that is not there, without quotes, then with / for \\.
    """
    bare = unquoted(text)
    for candidate in dict.fromkeys((text, bare, bare.replace("\\", "/"))):
        name = posixpath.normpath(candidate)
        if name.startswith("/"):
            name = name.removeprefix(f"{os.path.abspath(folder)}/")
        path = os.path.join(folder, name)
        if candidate and os.path.exists(path):
            return [Found(path, name)]
    return []


def walked(root: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`: links are followed, what is never data is left out, folders linked twice count once.

    Raises:
        OSError: a folder cannot be read.
    """
    met: set[tuple[int, int]] = set()

    def new(place: str) -> bool:
        at = os.stat(place)
        known = (at.st_dev, at.st_ino) in met
        met.add((at.st_dev, at.st_ino))
        return not known

    def refuse(error: OSError) -> None:
        raise error

    new(root)
    for place, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        folders[:] = [x for x in sorted(folders) if visible(x) and new(os.path.join(place, x))]
        yield place, folders, [x for x in files if visible(x)]


class VideoIndex:
    """The videos below a folder, by name. The tree is walked once, when it is first asked.

    Args:
        root: the folder.
        classes: class names that may be names of folders; a video in that of another class is not found.
    """

    def __init__(self, root: Path, classes: Iterable[str] = ()) -> None:
        self.root, self.classes = root, {alike(x) for x in classes}

    @cached_property
    def _index(self) -> dict[str, list[str]]:
        """Names of videos and folders of frames by what they are called, in lower case, without suffix."""
        index: dict[str, list[str]] = defaultdict(list)
        root = str(self.root)
        for place, folders, files in walked(root):
            inner = "" if place == root else os.path.relpath(place, root)
            videos = [x for x in files if x.lower().endswith(VIDEO_SUFFIXES)]
            for name in videos:
                index[_stem(name)].append(f"{inner}/{name}" if inner else name)
            images = not folders and not videos and any(x.lower().endswith(IMAGE_SUFFIXES) for x in files)
            if inner and images:
                index[os.path.basename(inner).lower()].append(inner)
        return index

    def find(self, name: str, folder: str = "") -> list[Found]:
        """The videos of a name: with this suffix if there are such, else with any, or folders of frames.

        Upper and lower case are alike where no name has the same.

        Args:
            name: of a file or a folder of frames, without folders.
            folder: name of one it should lie in, at any height. Where none does, a video counts that lies
                in no folder of a class: some mirrors put all videos into one folder.
        """
        found = self._index.get(_stem(name), [])
        for same in (str, str.lower, lambda x: os.path.splitext(x)[0]):
            wanted = same(name)
            found = [x for x in found if same(posixpath.basename(x)) == wanted] or found
        if folder:
            above = {x: {alike(part) for part in x.split("/")[:-1]} for x in found}
            near = [x for x in found if alike(folder) in above[x]]
            found = near or [x for x in found if not above[x] & self.classes]
        if len(found) > 1 and len({os.path.realpath(self.root / x) for x in found}) == 1:
            found = found[:1]
        return [Found(os.path.join(self.root, x), x) for x in found]


def _stem(name: str) -> str:
    """A file's name in lower case, without the suffix of a video."""
    low = name.lower()
    return os.path.splitext(low)[0] if low.endswith(VIDEO_SUFFIXES) else low
