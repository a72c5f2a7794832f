"""Samples as a CSV file, a data set of the format csv; for the doctor's clean list."""

import csv
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from videossp.data.datasets.read import read_data
from videossp.data.datasets.sample import Sample
from videossp.errors import DataError


def refuse_place(file: Path) -> None:
    """Refuse to write over a file, or into no folder.

    Raises:
        ValueError: it would be.
    """
    if os.path.lexists(file):
        raise ValueError(f"{file}: exists; name a new file")
    if not file.absolute().parent.is_dir():
        raise ValueError(f"{file}: there is no folder {file.parent}")


def write_table(members: Sequence[tuple[str, Sample]], classes: tuple[str, ...], file: Path) -> int:
    """Write (split, sample) pairs as a CSV file, a data set of the format csv.

    Where a class has no sample left, or names that look like numbers, the reader needs a class file beside
    it, and gets one. What was written is read back before it gets its name.

    Returns:
        How many samples.

    Raises:
        DataError: there is none.
        ValueError: the file is there, or would be read as other data where it is.
    """
    refuse_place(file)
    folder = file.absolute().parent
    if not members:
        raise DataError(f"there is no video to list; {file} is not written")
    rows = []
    for split, x in members:
        path = Path(os.path.abspath(x.path))
        name = path.relative_to(folder) if path.is_relative_to(folder) else path
        row = {"path": name.as_posix(), "label": classes[x.label], "class_id": x.label, "split": split}
        rows.append(row | {"start": x.start, "end": x.end, "group": x.group})
    used = [x for x in rows[0] if any(row[x] is not None for row in rows)]
    draft, names, made = folder / f".{os.getpid()}-{file.name}", folder / "classes.txt", False
    try:
        for columns in (used, used, [x for x in used if x != "label"]):
            with draft.open("w", encoding="utf-8", newline="") as stream:
                writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            with suppress(DataError):
                back = read_data(draft, format="csv")
                if back.classes == classes and facts(back.every()) == facts(members):
                    draft.rename(file)
                    made = False
                    return len(members)
            if not names.exists():
                names.write_text("".join(f"{i} {name}\n" for i, name in enumerate(classes)), encoding="utf-8")
                made = True
    finally:
        draft.unlink(missing_ok=True)
        if made:
            names.unlink()
    raise ValueError(f"{file}: in this folder it would be read as other data; write it to an empty folder")


def facts(members: Sequence[tuple[str, Sample]]) -> list[tuple[Any, ...]]:
    """All of samples but their names, which depend on the folder of the list."""
    return [(split, os.path.abspath(x.path), x.label, x.start, x.end, x.group) for split, x in members]
