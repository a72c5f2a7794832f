"""Rows of results as JSON Lines, CSV or Parquet; `RowFile` completes an interrupted file."""

import csv
import importlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from videossp.system.files import atomic_write, exclusive_lock

SUFFIXES = (".jsonl", ".csv", ".parquet")
Row = Mapping[str, Any]
Columns = Mapping[str, type]  # str, int, float or list (of float32, in Parquet alone) by name, in order


def check_suffix(path: Path) -> None:
    """Raise a ValueError if the name of a file does not tell its format, or its library is missing."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: the name of the output must end in {', '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        arrow_modules(path)


def write_rows(path: Path, rows: Sequence[Row], columns: Columns) -> None:
    """Write a file of rows atomically; its suffix gives the format.

    Parquet and CSV hold the columns alone; JSON Lines hold the rows as they are. Halves of surrogate pairs,
    which stand for bytes that are no UTF-8 in names of files, are written as \\udc.. escapes.

    Raises:
        ValueError: an unknown suffix, or Parquet without pyarrow.
        OSError: the file cannot be written.
    """
    check_suffix(path)
    if path.suffix == ".jsonl":
        atomic_write(path, b"".join(map(json_line, rows)))
    elif path.suffix == ".csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(columns)
        for row in rows:
            values = [row.get(name) for name in columns]
            # By itself, the writer quotes a carriage return only from Python 3.13 on.
            if any("\r" in x for x in values if isinstance(x, str)):
                csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(values)
            else:
                csv.writer(text, lineterminator="\n").writerow(values)
        atomic_write(path, text.getvalue().encode(errors="backslashreplace"))
    else:
        arrow, parquet = arrow_modules(path)
        kinds = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
        kinds[list] = arrow.list_(arrow.float32())
        schema = arrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
        table = arrow.Table.from_pylist([{k: storable(row.get(k)) for k in columns} for row in rows], schema)
        buffer = io.BytesIO()
        parquet.write_table(table, buffer)
        atomic_write(path, buffer.getvalue())


def read_rows(path: Path, columns: Columns) -> list[dict[str, Any]]:
    """The rows of a file that `write_rows` or `RowFile` wrote; a last row that was cut off is left out.

    Raises:
        ValueError: the file is damaged, or has other columns.
    """
    if path.suffix == ".jsonl":
        return [row for row, _ in read_json_lines(path)]
    if path.suffix == ".csv":
        text = path.read_bytes().decode()  # `read_text` would change carriage returns in names
        records = list(csv.reader(io.StringIO(text, newline="")))
        if not text.endswith("\n"):
            records = records[:-1]
        if records and records[0] != list(columns):
            raise ValueError(f"{path}: has other columns ({', '.join(records[0])})")
        if wrong := next((i for i, x in enumerate(records, 1) if len(x) != len(columns)), None):
            raise ValueError(f"{path}: row {wrong} is damaged; remove the file or give another --output")
        return [
            {name: kind(x) if x else None for (name, kind), x in zip(columns.items(), record, strict=True)}
            for record in records[1:]
        ]
    _, parquet = arrow_modules(path)
    try:
        table = parquet.read_table(path)
    except Exception as error:  # Arrow raises its own kinds
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: damaged ({reason}); remove it or give another --output") from error
    if table.column_names != list(columns):
        raise ValueError(f"{path}: has other columns ({', '.join(table.column_names)})")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def failed_rows(path: Path) -> int:
    """The number of rows with an error in a file of JSON Lines or Parquet with a column "error"."""
    if path.suffix == ".parquet":
        column = arrow_modules(path)[1].read_table(path, columns=["error"])["error"]
        return len(column) - int(column.null_count)
    with path.open("rb") as file:
        # `json_line` writes these bytes for the key alone: quotes inside of values are escaped.
        return sum(b'"error": null' not in line for line in file)


def json_line(row: Row) -> bytes:
    """A row as a line of JSON."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def storable(value: Any) -> Any:
    """A value with halves of surrogate pairs as escapes, so that text can be encoded as UTF-8."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


class RowFile:
    """A file of rows that grows by each row; open it with `RowFile.open`.

    JSON Lines are appended and flushed. CSV and Parquet are written as a whole at the end, also after an
    error or Ctrl-C; until then the rows are in a journal beside the file, so that a killed process loses
    none.

    Attributes:
        done: the keys of the rows that are there, with the error in each row or None.
    """

    def __init__(self, path: Path, columns: Columns, key: Sequence[str]) -> None:
        self.path, self.columns, self.key = path, columns, key
        self.lines = journal_of(path)
        self.rows: list[dict[str, Any]] = []  # of CSV and Parquet
        self.done: dict[tuple[Any, ...], Any] = {}
        size = 0
        if self.lines is not path and path.exists():
            self._know(read_rows(path, columns))
        if self.lines.exists():
            for row, end in read_json_lines(self.lines):
                self._know([row])
                size = end
        # Unbuffered: after a failed write, closing must not try to write the rest.
        self.file = self.lines.open("r+b" if self.lines.exists() else "xb", buffering=0)
        self.file.truncate(size)
        self.file.seek(size)

    def _know(self, rows: Sequence[Row]) -> None:
        """Remember rows that are not known yet: the keys of all, the rows of CSV and Parquet."""
        new = [x for x in rows if self.lacks(x)]
        self.done |= {self.key_of(x): x.get("error") for x in new}
        if self.lines is not self.path:
            self.rows += map(dict, new)

    def key_of(self, row: Row) -> tuple[Any, ...]:
        """The values by which a row is found again."""
        return tuple(storable(row.get(name)) for name in self.key)

    def lacks(self, row: Row) -> bool:
        """Whether there is no row with the same key."""
        return self.key_of(row) not in self.done

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows; those that are there already are left out."""
        new = [x for x in rows if self.lacks(x)]
        data = memoryview(b"".join(map(json_line, new)))
        while data:
            data = data[self.file.write(data) :]
        self._know(new)

    def close(self) -> None:
        """Write the file as a whole if it is no JSON Lines."""
        with self.file:
            os.fsync(self.file.fileno())
        if self.lines is not self.path:
            write_rows(self.path, self.rows, self.columns)
            self.lines.unlink()

    @classmethod
    @contextmanager
    def open(
        cls,
        path: Path,
        columns: Columns,
        key: Sequence[str],
        settings: Mapping[str, Any],
        *,
        retry: bool = False,
    ) -> Iterator["RowFile"]:
        """Open a file to add rows, a new one or one that was interrupted.

        Beside it, FILE.settings.json holds the settings. Rows of other settings are not mixed with its rows.

        Args:
            path: its suffix gives the format.
            columns: of CSV and Parquet.
            key: columns that tell rows apart.
            settings: everything that the rows depend on, but the videos.
            retry: remove the rows with an error, so that they are computed again.

        Raises:
            ValueError: the file was made with other settings or by another program, is damaged, or another
                process writes it.
            OSError: the file cannot be written.
        """
        check_suffix(path)
        if not path.parent.is_dir():
            raise ValueError(f"{path}: its folder does not exist; give another --output")
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ValueError(f"{path}: is a folder or a device, not a file; give another --output")
        with exclusive_lock(path.with_name(f".{path.name}.lock"), f"{path}: another process writes it"):
            file, journal = path.with_name(f"{path.name}.settings.json"), journal_of(path)
            there = [x for x in {path, journal} if x.exists()]
            if not there:
                file.unlink(missing_ok=True)  # of a run that ended before its first row
            check_settings(path, file, settings)
            for each in there if retry else ():
                write_rows(each, [x for x in read_rows(each, columns) if not x.get("error")], columns)
            rows = cls(path, columns, key)
            try:
                yield rows
            finally:
                rows.close()


def journal_of(path: Path) -> Path:
    """The file to which rows are appended: JSON Lines themselves, or a file beside CSV and Parquet."""
    return path if path.suffix == ".jsonl" else path.with_name(f".{path.name}.jsonl")


def check_settings(path: Path, file: Path, settings: Mapping[str, Any], flag: str = "--output") -> None:
    """Write the settings of results to a file, or compare them with it if the results exist.

    Args:
        path: the results, a file or a folder; named in errors.
        file: the settings.
        settings: by name; values of JSON.
        flag: that names the results; for errors.

    Raises:
        ValueError: there are results without settings, or with others.
    """
    wanted = json.loads(json.dumps(settings))
    if not file.exists():
        if path.is_file():
            raise ValueError(
                f"{path}: exists without {file.name}, which tells how it was made: give another {flag}"
            )
        atomic_write(file, json.dumps(wanted, indent=2) + "\n")
        return
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: damaged: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file}: damaged: not a JSON object")
    if different := [x for x in {**wanted, **found} if wanted.get(x) != found.get(x)]:
        name = different[0]
        before, now = (json.dumps(x.get(name)) for x in (found, wanted))
        shown = f"{name}: {before}, now {now}" if len(before + now) < 80 else f"other {name}"
        raise ValueError(
            f"{path}: was made with other settings ({shown}): give another {flag}, or the same settings"
        )


def read_json_lines(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Each row, and the number of bytes up to its end; a last line that was cut off is left out."""
    size = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise ValueError(
                    f"{path}: line {number} is damaged; remove the line or give another --output"
                )
            size += len(line)
            yield row, size


def arrow_modules(path: Path) -> tuple[Any, Any]:
    """pyarrow and its module parquet."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ValueError(f"{path}: Parquet needs pyarrow: pip install 'videossp[parquet]'") from error
