"""Which files of a data set are tables of videos, and why other files are not."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.columns import (
    CLASS_EXAMPLES,
    PATH_EXAMPLES,
    TEXTS,
    VAGUE_PATHS,
    has_label,
    has_path,
    path_positions,
    positions,
)
from videossp.data.datasets.lists import first_entry, is_listed
from videossp.data.datasets.records import is_json
from videossp.data.datasets.splits import SPLITS, split_in_name
from videossp.data.datasets.text import normalised
from videossp.data.video import VIDEO_SUFFIXES
from videossp.data.video.files import visible
from videossp.errors import DataError

TRIED = 50  # rows whose videos are looked for, to tell whether a file is a table of videos
VAGUE = {normalised(x) for x in VAGUE_PATHS}
METADATA = ("metadata.csv", "metadata.jsonl")  # of Hugging Face's VideoFolder
# fmt: off
UNREAD_SUFFIXES = (
    ".parquet", ".feather", ".arrow", ".xlsx", ".xls", ".ods", ".pkl", ".pickle", ".npy", ".mat",
)
# fmt: on


def is_table(data: Annotation) -> bool:
    """Whether there are such tables."""
    return bool(table_files(data))


def table_files(data: Annotation) -> list[Path]:
    """The tables of a data set: its file; those of the folder; else those in its folders.

    In a folder with videos these are Hugging Face's metadata.csv and metadata.jsonl, and all tables if it is
    that of a split. One other folder may have tables, such as annotations beside videos.

    Raises:
        DataError: there are tables in the folder and below it, or in several folders, or a metadata.parquet.
    """

    def fits(file: Path) -> bool:
        return lists_videos(data, file)

    files = data.tables(fits, lambda file: has_path(data.columns(file)))
    if data.root.is_file():
        return files
    below = [
        x for x in files_below(data) if (x.name.lower() in METADATA and has_path(data.columns(x))) or fits(x)
    ]
    if files and below:
        raise DataError(
            f"{below[0]}: a table as well, beside {files[0]}; give the one to read, or remove one"
        )
    here = [x for x in data.files if x.name.lower() in METADATA and has_path(data.columns(x))]
    for file in (*below, *(here if not files else ())):
        if not has_label(data.columns(file)):
            folders = "; or pass --format folder, which takes the names of the folders as classes"
            raise DataError(describe(data, file) + folders)
    return files or below or _tables_beside_videos(data, fits)


def _tables_beside_videos(data: Annotation, fits: Callable[[Path], bool]) -> list[Path]:
    """The tables of the only folder that has tables, and neither videos nor folders.

    Raises:
        DataError: several folders have tables.
    """
    tables = {
        folder: found
        for folder, files in data.files_below.items()
        if folder.name.lower() not in SPLITS
        and (found := [x for x in files if not is_json(x) and fits(x)])
        and not has_videos(folder)
        and not _folders(folder)
    }
    if len(tables) > 1:
        first, second, *_ = tables
        raise DataError(f"{data.root}: tables are in several folders: {first}, {second}")
    return next(iter(tables.values()), [])


def has_videos(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(x.name.lower().endswith(VIDEO_SUFFIXES) and visible(x.name) for x in entries)


def files_below(data: Annotation) -> list[Path]:
    """Text files beside the videos of a split, and Hugging Face's metadata in folders and folders of splits.

    Raises:
        DataError: a metadata.parquet, which is not read.
    """
    files: list[Path] = []
    folders = [data.root]
    for folder in _folders(data.root):
        folders.append(folder)
        if folder.name.lower() in SPLITS:
            # Beside folders of classes, other tables than metadata are ignored, like any file there. JSON
            # files may be notes of single videos, as many as these.
            if has_videos(folder):
                files += [x for x in data.files_below.get(folder, []) if not is_json(x)]
            folders += _folders(folder)
    for folder in folders:
        if (parquet := folder / "metadata.parquet").is_file():
            raise DataError(_unread(parquet))
        if folder != data.root:
            files += [x for name in METADATA if (x := folder / name).is_file() and x not in files]
    return files


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(x.path) for x in entries if visible(x.name) and x.is_dir())


def lists_videos(data: Annotation, file: Path) -> bool:
    """Whether a file is a table of videos.

    Columns such as id and label occur in other tables, too. Then most of its videos must be there.
    """
    columns = data.columns(file)
    if not has_path(columns) or not has_label(columns):
        return False
    found = path_positions(columns)
    if data.root.is_file() or any(normalised(columns[i]) not in VAGUE for i in found):
        return True
    try:
        rows = data.records(file).rows[:TRIED]
    except DataError:
        return False
    return any(2 * sum(bool(data.finder.find(x.fields[i])) for x in rows) > len(rows) for i in found)


def unread_table(data: Annotation) -> str:
    """What is wrong with the first table of a data set that no reader understands; "" if there is none.

    Raises:
        DataError: a table is damaged.
    """
    files = [*data.files, *(x for files in data.files_below.values() for x in files)]
    known = [x for x in files if has_path(data.columns(x)) or has_label(data.columns(x))]
    tables = [x for x in files if x.suffix.lower() in (".csv", ".tsv") or is_json(x)]
    if file := next((x for x in files if is_listed(first_entry(x, data.videos), data.videos)), None):
        return f"{file}: a list that is not read here; give the file itself, and --videos FOLDER"
    if file := next((x for x in (*known, *tables) if data.columns(x)), None):
        return describe(data, file)
    for file in tables:
        data.records(file)
    if file := next((x for x in files if split_in_name(x.stem) and not is_json(x)), None):
        return f"{file}:1: not PATH LABEL, nor the header of a table: {first_entry(file, data.videos)!r}"
    with_table = [data.root] if data.root.is_file() else sorted(_entries(data.root))
    unread = next((x for x in with_table if x.name.lower().endswith(UNREAD_SUFFIXES)), None)
    return _unread(unread) if unread else ""


def _entries(folder: Path) -> Iterator[Path]:
    for parent in (folder, *_folders(folder)):
        with os.scandir(parent) as entries:
            yield from (Path(x.path) for x in entries if visible(x.name))


def describe(data: Annotation, file: Path) -> str:
    """Why a file is not a table of videos: its columns, and those that are missing."""
    columns = data.columns(file)
    seen = ", ".join(columns)
    where = f"{file}: keys" if is_json(file) else f"{data.records(file).location}: header"
    lacks = []
    if not has_path(columns):
        lacks.append(f"the video (looked for {', '.join(PATH_EXAMPLES)}, ...)")
    if not has_label(columns):
        lacks.append(f"the class (looked for {', '.join(CLASS_EXAMPLES)}, ...)")
    text = [columns[i] for i in positions(columns, TEXTS)]
    note = f"; {text[0]} is text, not a class" if text and not has_label(columns) else ""
    if not lacks:
        return f"{where} {seen!r}: none of its videos is in {data.videos}; name their folder by --videos"
    return (
        f"{where} {seen!r}: no column for {' nor for '.join(lacks)}{note}; rename a column, or write lines "
        "PATH,LABEL without a header (docs/data.md lists all names)"
    )


def _unread(file: Path) -> str:
    return f"{file}: {file.suffix} files are not read; save it as CSV with the columns path and label"
