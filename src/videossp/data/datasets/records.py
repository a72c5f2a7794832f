"""`read_records`: the rows of a table of videos in a CSV, JSON or JSON Lines file, by column."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from videossp.data.datasets.columns import (
    CLASS_NAMES,
    OTHER_CLASS_NAMES,
    has_label,
    has_path,
    positions,
)
from videossp.data.datasets.splits import SPLITS
from videossp.data.datasets.text import head_of, normalised, parse_json, read_json, read_text
from videossp.data.video import VIDEO_SUFFIXES
from videossp.errors import DataError

SEPARATORS = ",;\t|"
SEPARATOR_LINE = re.compile(rf'"?sep=([{SEPARATORS}])"?\s*', re.IGNORECASE)  # of Excel
JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
PARTS = ("annotations", "instances")  # keys of a list with a record for each part of a video
STRONG = {normalised(x) for x in CLASS_NAMES}
LABELS = STRONG | {normalised(x) for x in OTHER_CLASS_NAMES}


class Row(NamedTuple):
    """A row of a table: `location` is "FILE:LINE" or "FILE: item N"; `fields` are in the columns' order."""

    location: str
    fields: Sequence[str]


class Records(NamedTuple):
    """A table.

    Attributes:
        path: its file.
        location: the file and the line of the header, for messages.
        columns: the names of the columns as they are written.
        rows: the rows.
        decimal_comma: whether "1,5" may be a number: the separator is no comma.
    """

    path: Path
    location: str
    columns: Sequence[str]
    rows: Sequence[Row]
    decimal_comma: bool = False

    def column(self, names: Iterable[str], meaning: Callable[[str], str | None] = str) -> int | None:
        """The position of the first column that has one of these names; None: there is none.

        Args:
            meaning: function from a field to the value that is compared; "" or None: no value.

        Raises:
            DataError: another column has one of the names, and differs.
        """
        found = positions(self.columns, names)
        for other in found[1:]:
            for row in self.rows:
                one, two = row.fields[found[0]], row.fields[other]
                if meaning(one) and meaning(two) and meaning(one) != meaning(two):
                    columns = f"{self.columns[found[0]]} ({one!r}) and {self.columns[other]} ({two!r})"
                    raise DataError(
                        f"{row.location}: the columns {columns} mean the same, but differ; remove one"
                    )
        return found[0] if found else None

    def values(self, *names: str) -> list[str]:
        """For each row, the first field of the columns of these names that is not empty, or ""."""
        found = positions(self.columns, names)
        return [next((row.fields[i] for i in found if row.fields[i]), "") for row in self.rows]


class Dialect(NamedTuple):
    """How a CSV file is written: its header, the number of the header's line, separator and quote."""

    columns: list[str]
    line: int
    separator: str
    quote: str


def is_json(path: Path) -> bool:
    """Whether a file is JSON or JSON Lines, by its name."""
    return path.name.lower().endswith(JSON_SUFFIXES)


def read_records(path: Path) -> Records:
    """Read a table.

    The header of a CSV file shows the separator: comma, semicolon, tab, | or blanks. Excel's line `sep=;`
    before it is read as well. Lines that start with # are comments before the header and, if they have
    another number of fields, after it. A quoted field may contain line breaks.

    A JSON file is a list of objects, or an object with an object for each video, which may hold a list of
    annotated parts. The keys are the columns.

    Raises:
        DataError: it is no such file; a column comes twice; a row has another number of fields than the
            header.
    """
    return _read_json(path) if is_json(path) else _read_csv(path)


def columns_of(path: Path) -> list[str]:
    """The columns of a table, for detecting a format; [] if the file is not a table."""
    try:
        if is_json(path):
            return list(_read_json(path).columns)
        return dialect_of(head_of(path)).columns
    except (DataError, OSError):
        return []


# CSV.


def dialect_of(lines: Sequence[str]) -> Dialect:
    """How a CSV file is written, from its first lines.

    Raises:
        DataError: the header is not CSV.
    """
    separator = ""
    for number, line in enumerate(lines, 1):
        if match := SEPARATOR_LINE.fullmatch(line):
            separator = match[1]
        elif not line.strip():
            continue
        elif line.lstrip().startswith("#"):
            # A comment, but the header itself in files such as AudioSet's.
            header = _header(line.lstrip().lstrip("#"), separator)
            if _is_header(header.columns):
                return header._replace(line=number)
        else:
            return _header(line, separator)._replace(line=number)
    return Dialect([], 0, separator or ",", '"')


def _is_header(columns: Sequence[str]) -> bool:
    return has_path(columns) and has_label(columns)


def _header(line: str, separator: str) -> Dialect:
    if not separator and not any(x in line for x in SEPARATORS) and _is_header(line.split()):
        separator = " "
    separator = separator or max(SEPARATORS, key=line.count)
    quote = "'" if line.lstrip().startswith("'") else '"'
    try:
        (fields,) = csv.reader(
            [line], delimiter=separator, quotechar=quote, skipinitialspace=True, strict=True
        )
    except (csv.Error, ValueError) as error:
        raise DataError(f"not a line of a CSV file: {error}") from error
    return Dialect([x.strip() for x in fields], 0, separator, quote)


def _read_csv(path: Path) -> Records:
    lines = re.split(r"\r\n|\r|\n", read_text(path))
    if not any(x.strip() for x in lines):
        raise DataError(f"{path}: the file is empty")
    try:
        dialect = dialect_of(lines)
    except DataError as error:
        number = next(i for i, x in enumerate(lines, 1) if x.strip())
        raise DataError(f"{path}:{number}: {error}") from error
    columns = [x.lower() for x in dialect.columns]
    location = f"{path}:{dialect.line}"
    if repeated := {x for x in columns if x and columns.count(x) > 1}:
        raise DataError(f"{location}: the column {min(repeated)} comes twice")
    rows = list(_rows(path, lines, dialect))
    return Records(path, location, dialect.columns, rows, dialect.separator != ",")


def _rows(path: Path, lines: Sequence[str], dialect: Dialect) -> Iterator[Row]:
    width, start, number = len(dialect.columns), 0, dialect.line

    def source() -> Iterator[str]:
        nonlocal start, number
        for number in range(dialect.line + 1, len(lines) + 1):
            line = lines[number - 1]
            if not start:  # the first line of a row
                if not line.strip():
                    continue
                if line.startswith("#") and len(_fields_of_comment(line, dialect)) != width:
                    continue
                start = number
            yield f"{line}\n"

    options = {"delimiter": dialect.separator, "quotechar": dialect.quote}
    reader = csv.reader(source(), skipinitialspace=True, strict=True, **options)  # type: ignore[arg-type]
    while True:
        start = 0
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}:{start or number}: not a line of a CSV file: {error}") from error
        if fields is None:
            return
        fields = [x.strip() for x in fields]
        if len(fields) > width and not any(fields[width:]):
            fields = fields[:width]  # separators at the end of the line
        if not any(fields):
            continue
        if len(fields) != width:
            raise DataError(f"{path}:{start}: {len(fields)} fields, the header has {width}")
        yield Row(f"{path}:{start}", fields)


def _fields_of_comment(line: str, dialect: Dialect) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=dialect.separator, quotechar=dialect.quote), [])
    except csv.Error:
        return []


# JSON.


def _read_json(path: Path) -> Records:
    if path.suffix.lower() == ".json":
        numbered = [(f"{path}: {item}", x) for item, x in _items(read_json(path))]
    else:
        lines = enumerate(re.split(r"\r\n|\r|\n", read_text(path)), 1)
        values = [(f"{path}:{i}", parse_json(line, path, i)) for i, line in lines if line.strip()]
        if other := next((location for location, x in values if not isinstance(x, dict)), None):
            raise DataError(f"{other}: not an object, {{...}}")
        numbered = values
    records = [(location, flat) for location, x in numbered for flat in _flat(location, x)]
    columns = list(dict.fromkeys(key for _, x in records for key in x))
    if not records or not columns:
        raise DataError(f"{path}: no list of videos: not [{{...}}, ...] or {{ID: {{...}}, ...}}")
    rows = [Row(location, [x.get(key, "") for key in columns]) for location, x in records]
    return Records(path, str(path), columns, rows)


def _items(value: Any) -> list[tuple[str, dict[str, Any]]]:
    """("item N" or "item ID", object) of each video of a JSON value; [] if it lists no videos."""
    if isinstance(value, list) and all(isinstance(x, dict) for x in value):
        return [(f"item {i}", x) for i, x in enumerate(value, 1)]
    if not isinstance(value, dict) or not value:
        return []
    if isinstance(value.get("database"), dict):  # ActivityNet
        value = value["database"]
    if all(key.lower() in SPLITS for key in value):
        return [
            (f"{split}, {item}", {"split": split} | x)
            for split, members in value.items()
            for item, x in _items(members)
        ]
    if all(isinstance(x, dict) for x in value.values()):
        return [(f"item {key!r}", _with_id(key, x)) for key, x in value.items()]
    if all(isinstance(x, str | int) for x in value.values()) and any(
        key.lower().endswith(VIDEO_SUFFIXES) for key in value
    ):
        return [(f"item {key!r}", {"path": key, "label": x}) for key, x in value.items()]
    lists = [x for x in value.values() if isinstance(x, list) and x and isinstance(x[0], dict)]
    return _items(lists[0]) if len(lists) == 1 else []


def _with_id(key: str, record: dict[str, Any]) -> dict[str, Any]:
    """A record with the key it had: a YouTube id in the JSON files of Kinetics and ActivityNet."""
    has_segments = any(isinstance(record.get(x), list | dict) for x in ("annotations", "segment"))
    return {"youtube_id" if has_segments else "id": key} | record


def _flat(location: str, record: dict[str, Any]) -> Iterator[dict[str, str]]:
    """The records of the parts of a video, with text as values."""
    for key in PARTS:
        parts = record.get(key)
        if isinstance(parts, dict):
            parts = [parts]
        if isinstance(parts, list) and all(isinstance(x, dict) for x in parts):
            rest = {name: x for name, x in record.items() if name != key}
            for part in parts or [{}]:
                yield from _flat(location, rest | part)
            return
    # Other columns of classes, such as tags, are not read beside a label.
    labels = STRONG if any(normalised(x) in STRONG for x in record) else LABELS
    flat: dict[str, str] = {}
    for key, value in record.items():
        if normalised(key) == "segment" and isinstance(value, list) and len(value) == 2:
            flat |= {"start": _text(value[0]), "end": _text(value[1])}
        elif normalised(key) in labels and isinstance(value, list | dict):
            if not isinstance(value, list) or len(value) > 1:
                raise DataError(
                    f"{location}: {key} is {value!r}: several labels of a video are not supported; write one"
                )
            flat[key] = _text(value[0]) if value else ""
        else:
            flat[key] = _text(value)
    yield flat


def _text(value: Any) -> str:
    """A JSON value as the text of a field."""
    if value is None or value != value:  # null, or NaN
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
