"""Annotation text: numbered lines, CSV rows with a header; errors name file and line."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from videossp.data.datasets.sample import SPLITS, Split
from videossp.errors import DataError

SPLIT = ("split", "subset", "set", "partition")  # columns that tell it


@dataclass(frozen=True)
class Row:
    """A line of a CSV file: `place` is "FILE:LINE", `cells` its fields by lower-case column name."""

    place: str
    cells: dict[str, str]

    def first(self, columns: Sequence[str]) -> str:
        """The first of these fields that holds anything, "" if none does."""
        return next((x for x in map(self.cells.get, columns) if x), "")

    def seconds(self, columns: Sequence[str]) -> float | None:
        """A time in seconds, None where the field is empty or missing."""
        text = self.first(columns)
        try:
            value = float(text) if text else None
        except ValueError:
            value = -1.0
        if value is not None and not 0 <= value < float("inf"):
            raise DataError(f"{self.place}: {columns[0]} {text!r} is not a time in seconds")
        return value


def read_text(path: Path) -> str:
    """The whole file; a byte order mark is left out."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: not UTF-8 text; save it as UTF-8") from error


def read_lines(path: Path) -> list[tuple[str, str]]:
    """("FILE:LINE", line) of the lines that are not blank, without line ends (LF, CRLF, CR)."""
    lines = enumerate(re.split(r"\r\n|\r|\n", read_text(path)), 1)
    found = [(f"{path}:{number}", line) for number, line in lines if line.strip()]
    if not found:
        raise DataError(f"{path}: the file is empty")
    return found


def first_line(path: Path) -> str:
    """The first line that is not blank, to tell what a file is; "" if it has none or cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return next((x for x in iter(lambda: file.readline(10_000), "") if x.strip()), "").rstrip("\n")
    except OSError:
        return ""


def read_rows(path: Path) -> list[Row]:
    """The rows below the header of a CSV file, separated as the header is (comma, semicolon, tab)."""
    (place, header), *lines = read_lines(path)
    separator = separator_of(header)
    columns = [x.lower() for x in fields_of(header, separator, place)]
    if twice := {x for x in columns if x and columns.count(x) > 1}:
        raise DataError(f"{place}: the column {min(twice)} comes twice")
    rows = []
    for place, line in lines:
        fields = fields_of(line, separator, place)
        if len(fields) != len(columns):
            raise DataError(f"{place}: {len(fields)} fields, the header has {len(columns)}")
        if any(fields):
            rows.append(Row(place, dict(zip(columns, fields, strict=True))))
    return rows


def separator_of(header: str) -> str:
    """The one of comma, semicolon and tab that a header has most of."""
    return max(",;\t", key=header.count)


def fields_of(line: str, separator: str, place: str) -> list[str]:
    """The fields of a line of a CSV file."""
    try:
        (fields,) = csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True)
    except csv.Error as error:
        raise DataError(f"{place}: not a line of a CSV file: {error}") from error
    return [x.strip() for x in fields]


def header_of(path: Path) -> set[str]:
    """Lower-case columns that the first line of a file would give, to tell what it is."""
    line = first_line(path)
    try:
        return {x.lower() for x in fields_of(line, separator_of(line), "")} if line else set()
    except DataError:
        return set()


@lru_cache(maxsize=1000)
def split_named(name: str) -> Split | None:
    """The one split that a file is named after: trainlist01.txt, k400_val_videos.txt, TestSet.csv."""
    words = re.findall(r"[a-z]+", re.sub("list|split|set|fold", " ", name.lower()))
    splits = {SPLITS[x] for x in words if x in SPLITS}
    return splits.pop() if len(splits) == 1 else None


def split_of(place: str, word: str, file: Path, video: str = "") -> Split:
    """The split of a line: the word in its column, else what the file is named after, else the folder that
    its path begins with, else "train".

    Raises:
        DataError: the word is no split.
    """
    if word and word.lower() not in SPLITS:
        raise DataError(f"{place}: split {word!r}; expected one of {', '.join(SPLITS)}")
    folder = SPLITS.get(video.split("/")[0].lower(), "train")
    return SPLITS[word.lower()] if word else split_named(file.stem) or folder
