"""Text of annotations: its encoding, its lines with their numbers, and JSON. Errors name file and line."""

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from videossp.errors import DataError

HEAD = 1 << 16  # bytes that are read to detect a format


@lru_cache(maxsize=100_000)
def normalised(name: str) -> str:
    """The letters and digits of a name, in lower case: copies of a data set differ in the rest."""
    return "".join(x for x in name.lower() if x.isalnum())


def encoding_of(data: bytes) -> str:
    """The encoding of a text: UTF-16 with or without a byte order mark, else UTF-8.

    Without the mark, a text whose first two characters are ASCII is UTF-16: a zero byte is in no text in
    UTF-8.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    first, second, third, fourth = (*data[:4], 1, 1, 1, 1)[:4]
    if second == fourth == 0 and first and third:
        return "utf-16-le"
    if first == third == 0 and second and fourth:
        return "utf-16-be"
    return "utf-8-sig"


def read_text(path: Path) -> str:
    """The text of a file in UTF-8 or UTF-16, without its byte order mark.

    Raises:
        DataError: it has another encoding, or zero bytes.
    """
    data = path.read_bytes()
    encoding = encoding_of(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        known = "UTF-8" if encoding == "utf-8-sig" else "UTF-16"
        raise DataError(
            f"{path}:{line}: not {known} text; save it as UTF-8 (in Excel as 'CSV UTF-8')"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path}:{line}: a zero byte; this is not a text file, or it is damaged")
    return text


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


def head_of(path: Path) -> list[str]:
    """The first lines of a file, for detecting a format; [] if it cannot be read or has no text."""
    try:
        with path.open("rb") as file:
            data = file.read(HEAD)
    except OSError:
        return []
    text = data.decode(encoding_of(data), "replace").removeprefix("\ufeff")
    return [] if "\0" in text else re.split(r"\r\n|\r|\n", text)


def first_line(path: Path) -> str:
    """The first line that is not blank, for detecting a format; "" if there is none or it cannot be read."""
    return next((x for x in head_of(path) if x.strip()), "")


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        DataError: it is no JSON.
    """
    return parse_json(read_text(path), path)


def parse_json(text: str, path: Path, line: int = 1) -> Any:
    """The value of a JSON text, which starts in this line of a file.

    Raises:
        DataError: it is no JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{line + error.lineno - 1}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON that can be read: {error}") from error
