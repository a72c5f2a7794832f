"""Reader of tables with columns for the video and its class: CSV, JSON, and Hugging Face's metadata files."""

from collections.abc import Sequence
from typing import NamedTuple

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.classes import resolve_labels
from videossp.data.datasets.columns import GROUPS, path_positions
from videossp.data.datasets.find_video import VideoFinder, in_split
from videossp.data.datasets.lists import refuse_other_lists, refuse_picture
from videossp.data.datasets.parts import FULL, Part, PartColumns, base_of
from videossp.data.datasets.records import Records, Row
from videossp.data.datasets.row_labels import names_and_numbers, numbers_of, refuse_several_labels
from videossp.data.datasets.row_splits import row_splits
from videossp.data.datasets.sample import ReportProblem, VideoDataset
from videossp.data.datasets.sample_builder import SampleBuilder
from videossp.data.datasets.splits import split_of
from videossp.data.datasets.table_files import METADATA, has_videos, table_files, unread_table
from videossp.data.datasets.text import normalised
from videossp.data.datasets.video_index import VideoPath, files_without, unquoted
from videossp.data.video import VIDEO_SUFFIXES
from videossp.errors import DataError

TRIED = 50  # rows whose videos are looked for, to tell which column names the video
YOUTUBE = {"youtubeid", "ytid"}


class Table(NamedTuple):
    """A table, and the folder below that of the videos which its paths are relative to ("": none)."""

    records: Records
    folder: str


def read_tables(data: Annotation, fold: int, report_problem: ReportProblem) -> VideoDataset:
    """Read one table, or all of a folder.

    Paths are relative to the folder of videos, or to that of the table if it is in a folder below. The split
    is in a column, else in the file's name, else the folder that a path starts with; the default is "train".
    A column of class numbers beside one of class names gives the order of the classes; alone, one of
    `CLASS_FILES` names them. docs/data.md lists the columns that are read.
    """
    files = table_files(data)
    if not files:
        reason = "no table with a column for the video and one for the class"
        raise DataError(unread_table(data) or f"{data.root}: {reason}")
    refuse_other_lists(data, files)
    tables = []
    for file in files:
        inside = file.parent != data.folder and (file.name.lower() in METADATA or has_videos(file.parent))
        folder = file.parent.relative_to(data.folder).as_posix() if inside else ""
        tables.append(Table(data.records(file), folder))
    if empty := next((x for x in tables if not x.records.rows), None):
        raise DataError(f"{empty.records.path}: no rows below the header")
    return build(data, tables, fold, report_problem, complete=data.root.is_dir())


def build(
    data: Annotation,
    tables: Sequence[Table],
    fold: int,
    report_problem: ReportProblem,
    *,
    complete: bool = False,
) -> VideoDataset:
    """The data set of some tables.

    Args:
        complete: whether they should list all videos; others are then in `ignored`.
    """
    tables = [_without_comments(data.finder, x) for x in tables]
    splits = row_splits(data.root, [x.records for x in tables], fold)
    pairs = [names_and_numbers(x.records) for x in tables]
    numbers = numbers_of(
        (row.location, name, number)
        for table, columns in zip(tables, pairs, strict=True)
        for row, name, number in zip(table.records.rows, *columns, strict=True)
    )
    by_number = {str(number): name for name, number in numbers.items()}
    labels = [[name or by_number.get(x) or x for name, x in zip(*pair, strict=True)] for pair in pairs]
    known = {x for members in labels for x in members}
    for table, members in zip(tables, labels, strict=True):
        refuse_several_labels(table.records, members, known)
    files = [x.records.path for x in tables]
    homes = {x.parent for x in files}
    home = homes.pop() if len(homes) == 1 else data.folder  # of the class file
    label_map = resolve_labels({x for members in labels for x in members}, home, files)
    classes, source = label_map.classes, label_map.source
    if classes is None and numbers:
        classes, source = sorted(numbers, key=lambda x: numbers[x]), "the classes with a number"
    builder = SampleBuilder(classes, source, report_problem)
    parts = [PartColumns(x.records) for x in tables]
    base = base_of(parts)
    missing: list[str] = []
    for i, (table, columns) in enumerate(zip(tables, parts, strict=True)):
        rows = table.records.rows
        videos = Videos(data.finder, table)
        groups = table.records.values(*GROUPS)
        for row, split, label, group in zip(rows, splits[i], labels[i], groups, strict=True):
            candidates, name, part = videos.of_row(row, columns, base)
            if not candidates and videos.from_youtube:
                missing.append(name)
                continue
            refuse_picture(row.location, name)
            split = split or split_of("", "", table.records.path, name)
            if len(candidates) > 1:
                candidates = in_split(candidates, split)
                name = candidates[0].name
            if "\n" in label:
                raise DataError(f"{row.location}: a line break in the class; a quote may not be closed")
            builder.add(
                row.location,
                split,
                candidates,
                name,
                label_map.names.get(label),
                start=part.start,
                end=part.end,
                frames=part.frames,
                group=group or None,
            )
    if missing and len(missing) == sum(len(x.records.rows) for x in tables):
        raise DataError(f"{data.root}: none of its {len(missing)} videos is in {data.videos}")
    ignored = files_without(data.videos, builder.listed) if complete else []
    return builder.build(ignored=ignored, missing=tuple(dict.fromkeys(missing)))


def _without_comments(finder: VideoFinder, table: Table) -> Table:
    """A table without the rows that start with # and are comments with as many separators as the header."""
    rows = table.records.rows
    if not any(x.fields[0].startswith("#") for x in rows):
        return table
    videos = Videos(finder, table)
    rows = [x for x in rows if not x.fields[0].startswith("#") or videos.are_named(x)]
    return Table(table.records._replace(rows=rows), table.folder)


class Videos:
    """The videos that the rows of a table name.

    Attributes:
        from_youtube: whether the column holds ids of YouTube. Then videos may be missing, and files may be
            named v_ID (ActivityNet) or ID_START_END (the clips of Kinetics).
    """

    def __init__(self, finder: VideoFinder, table: Table) -> None:
        self.finder, self.table = finder, table
        self._known: dict[str, list[VideoPath]] = {}
        columns = table.records.columns
        found = path_positions(columns)
        # The first column with the name of a video that exists. A column of ids may name something else.
        rows = table.records.rows[:TRIED]
        self.position = next(
            (i for i in found if len(found) > 1 and any(self._find(i, x) for x in rows)), found[0]
        )
        self.from_youtube = normalised(columns[self.position]) in YOUTUBE

    def of_row(self, row: Row, parts: PartColumns, base: int) -> tuple[list[VideoPath], str, Part]:
        """(candidates, name if there is none, part) of a row.

        Args:
            base: see `PartColumns.part`.

        Raises:
            DataError: the row names no video, or no part.
        """
        text = row.fields[self.position]
        if not text:
            raise DataError(f"{row.location}: the path is empty")
        if "\n" in text:
            raise DataError(f"{row.location}: a line break in the path; a quote may not be closed")
        candidates = self._find(self.position, row)
        part = FULL
        if parts.exist:
            part = parts.part(row, base, candidates[0].path if candidates else "")
        if self.from_youtube:
            clip = f"{text}_{int(part.start or 0):06}_{int(part.end or 0):06}"
            if part.end is not None and (trimmed := self.finder.find(clip, self.table.folder)):
                return trimmed, clip, FULL
        return candidates, candidates[0].name if candidates else self._name(text), part

    def are_named(self, row: Row) -> bool:
        """Whether a row that starts with # names a video, which may be missing.

        It is a comment if it names none, or one that exists only without the #.
        """
        if self._find(self.position, row):
            return True
        bare = row.fields[self.position].lstrip("# ")
        return bare.lower().endswith(VIDEO_SUFFIXES) and not self.finder.find(bare, self.table.folder)

    def _find(self, position: int, row: Row) -> list[VideoPath]:
        text = row.fields[position]
        if text not in self._known:
            found = self.finder.find(text, self.table.folder)
            if not found and normalised(self.table.records.columns[position]) in YOUTUBE:
                found = self.finder.find(f"v_{text}", self.table.folder)
            self._known[text] = found
        return self._known[text]

    def _name(self, text: str) -> str:
        folder = self.table.folder
        return f"{folder}/{unquoted(text)}" if folder else unquoted(text)
