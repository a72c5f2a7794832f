"""The split of each row of a table: by a column, a fold, the name of the file, or a folder."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from videossp.data.datasets.columns import FLAGS, FOLDS, OTHER_SPLITS, positions
from videossp.data.datasets.columns import SPLITS as SPLIT_COLUMNS
from videossp.data.datasets.records import Records, Row
from videossp.data.datasets.splits import SPLITS, Split, split_in_name
from videossp.data.datasets.text import normalised
from videossp.errors import DataError

# Kaggle's column Usage: PublicTest is for validation, PrivateTest for the final test.
WORDS: dict[str, Split] = {**SPLITS, "publictest": "val", "privatetest": "test"}
BOOLEANS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "1.0"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "0.0", ""), False),
}
FOLD = re.compile(r"(?:fold|split)?[ _-]?(-?\d{1,9})(?:\.0)?", re.IGNORECASE)


class SplitColumns(NamedTuple):
    """The columns of a table that give the splits: their positions."""

    word: int | None
    flags: dict[Split, int]
    fold: int | None


def split_in_word(word: str) -> Split | None:
    """The split that a field names: train, Training, test_set, PublicTest; None: no split."""
    return WORDS.get(word.lower()) or split_in_name(word)


def split_columns(table: Records) -> SplitColumns:
    """The columns of a table that give the splits.

    Raises:
        DataError: two columns of splits differ, or a field of a column of yes or no is neither.
    """
    word = table.column(SPLIT_COLUMNS, split_in_word)
    if word is not None and not any(x.fields[word] for x in table.rows):
        word = None
    if word is None:
        others = positions(table.columns, OTHER_SPLITS)
        word = next((i for i in others if any(split_in_word(x.fields[i]) for x in table.rows)), None)
    flags: dict[Split, int] = {}
    split: Split
    for split in ("train", "val", "test"):
        for i in positions(table.columns, FLAGS[split]):
            other = next((x for x in table.rows if x.fields[i].lower() not in BOOLEANS), None)
            if other is None:
                flags.setdefault(split, i)
            elif word is None and normalised(table.columns[i]).startswith(("is", "in")):
                text = f"{table.columns[i]} {other.fields[i]!r}"
                raise DataError(f"{other.location}: {text} is neither yes nor no; write 1 or 0")
    fold = next((i for i in positions(table.columns, FOLDS) if i != word), None)
    return SplitColumns(word, {} if word is not None else flags, fold)


def row_splits(root: Path, tables: Sequence[Records], fold: int) -> list[list[Split | None]]:
    """The split of each row of each table that its columns give; None: they give none.

    Columns of folds count only if neither columns nor the names of the files give splits.

    Args:
        root: the data set, for messages.
        fold: the fold that is tested; the others train.

    Raises:
        DataError: a field is no split; a row is in several splits or none; there is no such fold.
    """
    columns = [split_columns(x) for x in tables]
    in_names = {split_in_name(x.path.stem) for x in tables} - {None, "train"}
    with_splits = in_names or any(x.word is not None or x.flags for x in columns)
    if not with_splits and columns and all(x.fold is not None for x in columns):
        return _by_fold(tables, [x.fold or 0 for x in columns], fold)
    if fold != 1:
        reason = "columns or names of files give the splits" if with_splits else "it has no column fold"
        raise DataError(f"{root}: {reason}; leave --fold out")
    return [[_split(table, x, row) for row in table.rows] for table, x in zip(tables, columns, strict=True)]


def _split(table: Records, columns: SplitColumns, row: Row) -> Split | None:
    if columns.word is not None:
        if not (word := row.fields[columns.word]):
            if split_in_name(table.path.stem):
                return None
            name = table.columns[columns.word]
            raise DataError(f"{row.location}: the split ({name}) is empty; write train, val or test")
        if (split := split_in_word(word)) is None:
            raise DataError(f"{row.location}: split {word!r}; expected one of {', '.join(WORDS)}")
        return split
    if not columns.flags:
        return None
    chosen: list[Split] = [x for x, i in columns.flags.items() if BOOLEANS[row.fields[i].lower()]]
    # Without a flag that is set it is the split that has no flag.
    rest: dict[frozenset[str], Split] = {
        frozenset({"train"}): "test",
        frozenset({"val"}): "train",
        frozenset({"test"}): "train",
        frozenset({"train", "val"}): "test",
        frozenset({"val", "test"}): "train",
    }
    if not chosen and (other := rest.get(frozenset(columns.flags))):
        return other
    if len(chosen) != 1:
        names = ", ".join(table.columns[i] for i in columns.flags.values())
        raise DataError(f"{row.location}: the row is in {len(chosen) or 'no'} splits by {names}")
    return chosen[0]


def _by_fold(tables: Sequence[Records], positions: Sequence[int], fold: int) -> list[list[Split | None]]:
    numbers: list[list[int]] = []
    for table, position in zip(tables, positions, strict=True):
        numbers.append([])
        for row in table.rows:
            match = FOLD.fullmatch(row.fields[position])
            if match is None or int(match[1]) < -1:
                text = f"{table.columns[position]} {row.fields[position]!r}"
                raise DataError(f"{row.location}: {text} is not the number of a fold")
            numbers[-1].append(int(match[1]))
    folds = sorted({x for members in numbers for x in members if x >= 0})
    if fold not in folds or len(folds) < 2:
        given = ", ".join(map(str, folds[:20])) or "none"
        reason = f"no fold {fold}" if fold not in folds else "a single fold, which leaves no training videos"
        raise DataError(f"{tables[0].location}: {reason}; the folds are {given} (--fold)")
    return [["test" if x == fold else "train" for x in members] for members in numbers]
