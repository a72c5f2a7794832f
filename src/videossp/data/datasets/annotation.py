"""`Annotation`: the text files of a data set, here and one folder down, and where its videos are."""

import os
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from videossp.data.datasets.text import SPLIT, header_of, split_named
from videossp.data.datasets.video_index import visible
from videossp.errors import DataError

SUFFIXES = (".csv", ".tsv", ".txt", ".lst", ".list", ".json")


class Annotation:
    """What there is to read of a data set.

    Args:
        root: a folder, or one annotation file.
        videos: folder of the videos; None: that of the annotation.
    """

    def __init__(self, root: Path, videos: Path | None = None) -> None:
        self.root = root
        self.folder = root.parent if root.is_file() else root
        self.videos = videos or self.folder

    @cached_property
    def here(self) -> list[Path]:
        """The file, or the text files of the folder."""
        return [self.root] if self.root.is_file() else _texts(self.root)

    @cached_property
    def below(self) -> dict[Path, list[Path]]:
        """The text files of each folder in the folder."""
        if self.root.is_file():
            return {}
        with os.scandir(self.root) as entries:
            folders = sorted(Path(x.path) for x in entries if visible(x.name) and x.is_dir())
        return {x: files for x in folders if (files := _texts(x))}

    def home(self, *patterns: str) -> Path | None:
        """The folder that holds a file of each of these patterns: this one, else one right below."""

        def fits(files: list[Path]) -> bool:
            return all(any(fnmatchcase(x.name, pattern) for x in files) for pattern in patterns)

        if fits(self.here):
            return self.folder
        homes = [folder for folder, files in self.below.items() if fits(files)]
        if len(homes) > 1:
            raise DataError(f"{self.root}: {patterns[0]} is in several folders: {homes[0]}, {homes[1]}")
        return homes[0] if homes else None

    def tables(self, fits: Callable[[set[str]], bool], *, down: bool = False) -> list[Path]:
        """The CSV files with such a header, here or else, if `down`, right below.

        Raises:
            DataError: others are named after splits, but one is not and has no such column, or the only one
                named after a split has another header.
        """
        below = [x for files in self.below.values() for x in files] if down else []
        for files in (self.here, below):
            headers = {x: header_of(x) for x in files if x.suffix != ".json"}
            tables = [x for x in headers if fits(headers[x])]
            named = [x for x in tables if split_named(x.stem)]
            odd = [x for x in tables if x not in named and not headers[x] & set(SPLIT)]
            splits = {None, *(split_named(x.stem) for x in named)}
            lost = [x for x in headers if split_named(x.stem) not in splits]
            if named and lost:
                raise DataError(f"{lost[0]}:1: not a header like that of {named[0].name}")
            if named and odd:
                raise DataError(
                    f"{odd[0]}: its name tells no split, as {named[0].name} does, and it has no column split"
                )
            if tables:
                return tables
        return []


def _texts(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [x.name for x in entries if x.name.lower().endswith(SUFFIXES) and visible(x.name)]
    return [x for x in map(folder.joinpath, sorted(names)) if x.is_file()]
