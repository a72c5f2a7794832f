"""Samples as a CSV file that is a data set of the format csv: the doctor's clean list."""

import csv
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from videossp.data.datasets.read import read_data
from videossp.data.datasets.sample import Sample
from videossp.errors import DataError


def check_new_file(file: Path) -> None:
    """Check that a file can be created without replacing another one.

    Raises:
        ValueError: it exists, or its folder does not.
    """
    if os.path.lexists(file):
        raise ValueError(f"{file}: exists; name a new file")
    if not file.absolute().parent.is_dir():
        raise ValueError(f"{file}: there is no folder {file.parent}")


def write_table(members: Sequence[tuple[str, Sample]], classes: tuple[str, ...], file: Path) -> int:
    """Write (split, sample) pairs as a CSV file, a data set of the format csv.

    The reader needs a class file beside it if a class has no sample left, or if class names look like
    numbers; it is then written, too. The draft is read back before it is renamed to `file`.

    Returns:
        Number of samples.

    Raises:
        DataError: there are no samples.
        ValueError: the file exists, or would be read as other data in its folder.
    """
    check_new_file(file)
    folder = file.absolute().parent
    if not members:
        raise DataError(f"there is no video to list; {file} is not written")
    rows = []
    for split, x in members:
        path = Path(os.path.abspath(x.path))
        name = path.relative_to(folder) if path.is_relative_to(folder) else path
        row = {"path": name.as_posix(), "label": classes[x.label], "class_id": x.label, "split": split}
        first, last = (None, None) if x.frames is None else (x.frames[0] + 1, x.frames[1])
        row |= {"start": x.start, "end": x.end, "start_frame": first, "end_frame": last, "group": x.group}
        rows.append(row)
    used = [x for x in rows[0] if any(row[x] is not None for row in rows)]
    draft, class_file = folder / f".{os.getpid()}-{file.name}", folder / "classes.txt"
    wrote_class_file = False
    draft.unlink(missing_ok=True)  # of a killed process with the same number
    try:
        # Without a class file, then with one, then without the column of class names.
        for columns in (used, used, [x for x in used if x != "label"]):
            with draft.open("x", encoding="utf-8", newline="") as stream:
                writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            with suppress(DataError):
                back = read_data(draft, format="csv", least_classes=1)
                if back.classes == classes and contents(back.all_samples()) == contents(members):
                    draft.rename(file)
                    wrote_class_file = False
                    return len(members)
            draft.unlink()
            if not os.path.lexists(class_file):
                with class_file.open("x", encoding="utf-8") as stream:
                    wrote_class_file = True
                    stream.writelines(f"{i} {name}\n" for i, name in enumerate(classes))
    finally:
        draft.unlink(missing_ok=True)
        if wrote_class_file:
            class_file.unlink()
    raise ValueError(f"{file}: in this folder it would be read as other data; write it to an empty folder")


def contents(members: Sequence[tuple[str, Sample]]) -> list[tuple[Any, ...]]:
    """The samples without their names, which depend on the folder of the list."""
    return [(split, os.path.abspath(x.path), x.label, x.part, x.group) for split, x in members]
