"""`Annotation`: the text files of a data set, here and one folder down, and the folder of its videos."""

import os
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from videossp.data.datasets.splits import SPLIT_COLUMNS, split_in_name
from videossp.data.datasets.text import header_of
from videossp.data.datasets.video_index import visible
from videossp.errors import DataError

SUFFIXES = (".csv", ".tsv", ".txt", ".lst", ".list", ".json")


class Annotation:
    """The input of the readers.

    Args:
        root: a folder, or one annotation file.
        videos: folder of the videos; None: the folder of the annotation.
    """

    def __init__(self, root: Path, videos: Path | None = None) -> None:
        self.root = root
        self.folder = root.parent if root.is_file() else root
        self.videos = videos or self.folder

    @cached_property
    def files(self) -> list[Path]:
        """The annotation file, or the text files of the folder."""
        return [self.root] if self.root.is_file() else _text_files(self.root)

    @cached_property
    def files_below(self) -> dict[Path, list[Path]]:
        """The text files of each folder in the folder."""
        if self.root.is_file():
            return {}
        with os.scandir(self.root) as entries:
            folders = sorted(Path(x.path) for x in entries if visible(x.name) and x.is_dir())
        return {x: files for x in folders if (files := _text_files(x))}

    def home(self, *patterns: str) -> Path | None:
        """The folder with a file for each of these patterns: this folder, else one folder down.

        Raises:
            DataError: several folders have them.
        """

        def fits(files: list[Path]) -> bool:
            return all(any(fnmatchcase(x.name, pattern) for x in files) for pattern in patterns)

        if fits(self.files):
            return self.folder
        homes = [folder for folder, files in self.files_below.items() if fits(files)]
        if len(homes) > 1:
            raise DataError(f"{self.root}: {patterns[0]} is in several folders: {homes[0]}, {homes[1]}")
        return homes[0] if homes else None

    def tables(self, fits: Callable[[set[str]], bool], *, below: bool = False) -> list[Path]:
        """The CSV files whose header `fits`, in this folder or, with `below`, else one folder down.

        Raises:
            DataError: some files are named after splits, and another one is not and has no split column, or
                the only file of a split has another header.
        """
        files_below = [x for files in self.files_below.values() for x in files] if below else []
        for files in (self.files, files_below):
            headers = {x: header_of(x) for x in files if x.suffix != ".json"}
            tables = [x for x in headers if fits(headers[x])]
            of_splits = [x for x in tables if split_in_name(x.stem)]
            without_split = [x for x in tables if x not in of_splits and not headers[x] & set(SPLIT_COLUMNS)]
            splits = {None, *(split_in_name(x.stem) for x in of_splits)}
            other_header = [x for x in headers if split_in_name(x.stem) not in splits]
            if of_splits and other_header:
                raise DataError(f"{other_header[0]}:1: not a header like that of {of_splits[0].name}")
            if of_splits and without_split:
                raise DataError(
                    f"{without_split[0]}: no split in its name, as in {of_splits[0].name}, nor a column split"
                )
            if tables:
                return tables
        return []


def _text_files(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [x.name for x in entries if x.name.lower().endswith(SUFFIXES) and visible(x.name)]
    return [x for x in map(folder.joinpath, sorted(names)) if x.is_file()]
