"""`Annotation`: the text files of a data set, here and one folder down, and the folder of its videos."""

import os
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from videossp.data.datasets.columns import FLAGS, SPLITS, positions
from videossp.data.datasets.find_video import VideoFinder
from videossp.data.datasets.records import Records, columns_of, is_json, read_records
from videossp.data.datasets.splits import split_in_name
from videossp.data.datasets.text import normalised
from videossp.data.video.files import visible
from videossp.errors import DataError

SUFFIXES = (".csv", ".tsv", ".txt", ".lst", ".list", ".json", ".jsonl", ".ndjson")


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
        self._columns: dict[Path, list[str]] = {}
        self._records: dict[Path, Records] = {}

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

    @cached_property
    def finder(self) -> VideoFinder:
        """Finds the videos."""
        return VideoFinder(self.videos)

    def columns(self, file: Path) -> list[str]:
        """The columns of a table; [] if the file is not a table."""
        if file not in self._columns:
            if is_json(file):
                try:
                    self._records[file] = read_records(file)
                except DataError:
                    self._columns[file] = []
                else:
                    self._columns[file] = list(self._records[file].columns)
            else:
                self._columns[file] = columns_of(file)
        return self._columns[file]

    def records(self, file: Path) -> Records:
        """The rows of a table.

        Raises:
            DataError: see `read_records`.
        """
        if file not in self._records:
            self._records[file] = read_records(file)
        return self._records[file]

    def has_columns(self, file: Path, *names: str) -> bool:
        """Whether a CSV file has a column of each of these names."""
        return not is_json(file) and len(positions(self.columns(file), names)) == len(names)

    def tables(
        self,
        fits: Callable[[Path], bool],
        fits_split: Callable[[Path], bool] | None = None,
        *,
        below: bool = False,
    ) -> list[Path]:
        """The files that `fits`, in this folder or, with `below`, else one folder down.

        Args:
            fits_split: files with a split in their names that are taken as well, if a file fits.

        Raises:
            DataError: some files are named after splits, and another one is not and has no split column; the
                only file of a split has another header; or CSV files without splits have different columns.
        """
        files_below = [x for files in self.files_below.values() for x in files] if below else []
        for files in (self.files, files_below):
            tables = [x for x in files if fits(x)]
            if tables and fits_split:
                tables += [x for x in files if x not in tables and split_in_name(x.stem) and fits_split(x)]
            of_splits = [x for x in tables if split_in_name(x.stem)]
            without_split = [x for x in tables if x not in of_splits and not self._has_split(x)]
            splits = {None, *(split_in_name(x.stem) for x in of_splits)}
            other_header = [x for x in files if not is_json(x) and split_in_name(x.stem) not in splits]
            if of_splits and other_header:
                raise DataError(f"{other_header[0]}:1: not a header like that of {of_splits[0].name}")
            if of_splits and without_split:
                raise DataError(
                    f"{without_split[0]}: no split in its name, as in {of_splits[0].name}, nor a column split"
                )
            csv = [x for x in tables if not of_splits and not is_json(x)]
            for file in csv:
                if set(map(normalised, self.columns(file))) != set(map(normalised, self.columns(csv[0]))):
                    raise DataError(
                        f"{file}: a table as well, with other columns than {csv[0].name}; give the one to "
                        "read, or remove one"
                    )
            if tables:
                return tables
        return []

    def _has_split(self, file: Path) -> bool:
        flags = (name for names in FLAGS.values() for name in names)
        return bool(positions(self.columns(file), (*SPLITS, *flags)))


def _text_files(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [x.name for x in entries if x.name.lower().endswith(SUFFIXES) and visible(x.name)]
    return [x for x in map(folder.joinpath, sorted(names)) if x.is_file()]
