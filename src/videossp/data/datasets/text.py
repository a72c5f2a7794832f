"""Text of annotations: lines with their numbers, CSV rows by column. Errors name file and line."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from videossp.errors import DataError


@dataclass(frozen=True)
class Row:
    """A row of a CSV file: `location` is "FILE:LINE", `cells` are its fields by lower-case column name."""

    location: str
    cells: dict[str, str]

    def first(self, columns: Sequence[str]) -> str:
        """The first non-empty field of these columns, or ""."""
        return next((x for x in map(self.cells.get, columns) if x), "")

    def seconds(self, columns: Sequence[str]) -> float | None:
        """The first non-empty field of these columns as a time in seconds, or None.

        Raises:
            DataError: it is no time.
        """
        text = self.first(columns)
        try:
            value = float(text) if text else None
        except ValueError:
            value = -1.0
        if value is not None and not 0 <= value < float("inf"):
            raise DataError(f"{self.location}: {columns[0]} {text!r} is not a time in seconds")
        return value


def read_text(path: Path) -> str:
    """The text of a UTF-8 file without its byte order mark.

    Raises:
        DataError: it is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: not UTF-8 text; save it as UTF-8") from error


def read_lines(path: Path) -> list[tuple[str, str]]:
    """("FILE:LINE", line) of the lines that are not blank, without line ends (LF, CRLF, CR).

    Raises:
        DataError: there are none.
    """
    numbered = enumerate(re.split(r"\r\n|\r|\n", read_text(path)), 1)
    lines = [(f"{path}:{number}", line) for number, line in numbered if line.strip()]
    if not lines:
        raise DataError(f"{path}: the file is empty")
    return lines


def first_line(path: Path) -> str:
    """The first line that is not blank, for detecting a format; "" if there is none or it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return next((x for x in iter(lambda: file.readline(10_000), "") if x.strip()), "").rstrip("\n")
    except OSError:
        return ""


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV file with a header; the header shows the separator (comma, semicolon or tab).

    Raises:
        DataError: a column comes twice, or a row has another number of fields than the header.
    """
    (location, header), *lines = read_lines(path)
    separator = separator_of(header)
    columns = [x.lower() for x in fields_of(header, separator, location)]
    if repeated := {x for x in columns if x and columns.count(x) > 1}:
        raise DataError(f"{location}: the column {min(repeated)} comes twice")
    rows = []
    for location, line in lines:
        fields = fields_of(line, separator, location)
        if len(fields) != len(columns):
            raise DataError(f"{location}: {len(fields)} fields, the header has {len(columns)}")
        if any(fields):
            rows.append(Row(location, dict(zip(columns, fields, strict=True))))
    return rows


def separator_of(header: str) -> str:
    """The most frequent one of comma, semicolon and tab in a header."""
    return max(",;\t", key=header.count)


def fields_of(line: str, separator: str, location: str) -> list[str]:
    """The fields of a line of a CSV file.

    Raises:
        DataError: the line is not CSV.
    """
    try:
        (fields,) = csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True)
    except csv.Error as error:
        raise DataError(f"{location}: not a line of a CSV file: {error}") from error
    return [x.strip() for x in fields]


def header_of(path: Path) -> set[str]:
    """The fields of a file's first line in lower case, for detecting a format."""
    line = first_line(path)
    try:
        return {x.lower() for x in fields_of(line, separator_of(line), "")} if line else set()
    except DataError:
        return set()
