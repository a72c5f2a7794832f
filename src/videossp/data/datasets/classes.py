"""Class names: files that number them, and what the labels of an annotation stand for."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from videossp.data.datasets.text import read_lines
from videossp.errors import DataError

# Files that give the names of whole-number labels, beside an annotation.
CLASS_FILES = ("classInd.txt", "classes.txt", "labels.txt", "label_map.txt", "class_names.txt")
UNLABELLED = ("", "-1")


class Meaning(NamedTuple):
    """Class names by label; the classes in order, None for those that occur; where they come from."""

    names: dict[str, str]
    classes: list[str] | None
    known: str


def read_classes(path: Path) -> dict[int, str]:
    """Class names by number: lines "NUMBER NAME" as in UCF101's classInd.txt, or NAMEs counted from 0."""
    lines = [(place, line.strip()) for place, line in read_lines(path)]
    pairs = [re.fullmatch(r"(\d{1,9})[\s,;:]+(.+)", line) for _, line in lines]
    numbered = [(int(x[1]), x[2]) for x in pairs if x]
    if len(numbered) < len(lines):
        numbered = list(enumerate(line for _, line in lines))
    classes: dict[int, str] = {}
    names: set[str] = set()
    for (number, name), (place, line) in zip(numbered, lines, strict=True):
        if number in classes or name in names:
            raise DataError(f"{place}: {line!r} comes twice")
        classes[number] = name
        names.add(name)
    return classes


def meaning_of(labels: set[str], folder: Path, used: Sequence[Path]) -> Meaning:
    """What labels stand for: class names or, if all are whole numbers, those of a class file.

    Without one the numbers are the names.

    Args:
        labels: those that occur.
        folder: where one of `CLASS_FILES` may be.
        used: files that are the annotation itself.
    """
    files = (x for x in map(folder.joinpath, CLASS_FILES) if x.is_file() and x not in used)
    file = next(files, None)
    classes = read_classes(file) if file else {}
    ordered = [classes[x] for x in sorted(classes)] or None
    labels = labels.difference(UNLABELLED)
    numbers = all(re.fullmatch(r"-?\d{1,9}", x) for x in labels)
    if not numbers or labels <= set(classes.values()):
        return Meaning({x: x for x in labels}, ordered, str(file))
    if not classes:
        return Meaning({x: str(int(x)) for x in labels}, None, "")
    known = f"{file} (numbers {min(classes)} to {max(classes)})"
    return Meaning({x: classes.get(int(x), f"number {x}") for x in labels}, ordered, known)
