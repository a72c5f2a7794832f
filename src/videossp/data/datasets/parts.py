"""The part of a video that a row of a table names, in seconds or in frame numbers."""

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from videossp.data.datasets.columns import (
    ENDS,
    FIRST_FRAMES,
    LAST_FRAMES,
    LENGTH_WORDS,
    PART_WORDS,
    STARTS,
    words_of,
)
from videossp.data.datasets.records import Records, Row
from videossp.errors import DataError

CLOCK = re.compile(r"(?:(\d{1,4}):([0-5]?\d)|(\d{1,6})):([0-5]?\d(?:\.\d+)?)")  # [hours:]minutes:seconds


class Part(NamedTuple):
    """A part of a video, as in `Sample`; without start, end and frames it is the full video."""

    start: float | None
    end: float | None
    frames: tuple[int, int] | None


FULL = Part(None, None, None)


def seconds_of(location: str, column: str, text: str, decimal_comma: bool = False) -> float | None:
    """A time in seconds: a number, or [hours:]minutes:seconds; None: no text.

    Raises:
        DataError: it is no time.
    """
    if not text:
        return None
    number = text.replace(",", ".", 1) if decimal_comma and "." not in text else text
    try:
        value = float(number)
    except ValueError:
        value = -1.0
        if clock := CLOCK.fullmatch(number):
            hours, minutes, only_minutes, seconds = clock.groups()
            value = 3600 * int(hours or 0) + 60 * int(minutes or only_minutes) + float(seconds)
    if not 0 <= value < float("inf"):
        raise DataError(f"{location}: {column} {text!r} is not a time in seconds")
    return value


class PartColumns:
    """The columns of a table that name a part of the video.

    Args:
        table: the table.

    Raises:
        DataError: it has a start or an end in a column that is not known, or in two columns that differ.
    """

    def __init__(self, table: Records) -> None:
        self.table = table
        columns = table.columns
        self.start, self.end, self.first, self.last = (
            table.column(names) for names in (STARTS, ENDS, FIRST_FRAMES, LAST_FRAMES)
        )
        self.exist = any(x is not None for x in (self.start, self.end, self.first, self.last))
        if not self.exist and (unknown := [x for x in columns if words_of(x) & PART_WORDS]):
            raise DataError(
                f"{table.location}: column {unknown[0]!r} is not known, and may select a part of the video; "
                "name it start or end (seconds), start_frame or end_frame, or remove it"
            )
        lengths = [x for x in columns if words_of(x) & LENGTH_WORDS]
        if self.start is not None and self.end == self.first == self.last and lengths:
            raise DataError(
                f"{table.location}: {columns[self.start]} and {lengths[0]} without an end; "
                "write the end of each part in a column end"
            )

    def counts_from_zero(self) -> bool:
        """Whether a frame has the number 0."""
        found = [i for i in (self.first, self.last) if i is not None]
        return any(self._frame(row, i) == 0 for row in self.table.rows for i in found)

    def _frame(self, row: Row, position: int | None) -> int | None:
        if position is None or not (text := row.fields[position]):
            return None
        if not re.fullmatch(r"-?\d{1,9}(\.0*)?", text):
            name = self.table.columns[position]
            raise DataError(f"{row.location}: {name} {text!r} is not the number of a frame")
        return int(text.split(".")[0])

    def _seconds(self, row: Row, position: int | None) -> float | None:
        if position is None:
            return None
        name, text = self.table.columns[position], row.fields[position]
        return seconds_of(row.location, name, text, self.table.decimal_comma)

    def part(self, row: Row, base: int, path: str) -> Part:
        """The part that a row names.

        Where a row has both, frame numbers count for a folder of frames, and times for a file.

        Args:
            base: the number of a video's first frame, 0 or 1.
            path: the video.

        Raises:
            DataError: it is empty, or no part.
        """
        start, end = self._seconds(row, self.start), self._seconds(row, self.end)
        first, last = self._frame(row, self.first), self._frame(row, self.last)
        has_frames = first is not None or last is not None
        if (start is not None or end is not None) and not (has_frames and os.path.isdir(path)):
            if end is not None and end <= (start or 0):
                raise DataError(f"{row.location}: end {end:g} is not after start {start or 0:g}")
            return Part(start, end, None)
        if not has_frames:
            return FULL
        first = base if first is None else first
        if last is None or last == -1:  # to the last frame
            if first == base:
                return FULL
            raise DataError(f"{row.location}: no number of the last frame beside {first}; write it")
        if not base <= first <= last:
            raise DataError(
                f"{row.location}: no frames from {first} to {last}; the first frame of a video is number "
                f"{base}, and the last one of a part is included"
            )
        return Part(None, None, (first - base, last - base + 1))


def base_of(tables: Sequence[PartColumns]) -> int:
    """The number of a video's first frame in these tables: 0 if a frame has the number 0, else 1."""
    return 0 if any(x.counts_from_zero() for x in tables) else 1
