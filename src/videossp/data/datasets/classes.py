"""Class names: files that list or number them, and the classes that the labels of an annotation mean."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from videossp.data.datasets.columns import CLASS_NAMES
from videossp.data.datasets.text import normalised, read_json, read_lines
from videossp.errors import DataError

# Files beside an annotation that name its whole-number labels.
CLASS_FILES = (
    *("classInd.txt", "classes.txt", "labels.txt", "label_map.txt", "class_names.txt"),
    *("classes.json", "labels.json", "label_map.json", "class_names.json"),
)
UNLABELLED = ("", "-1")
HEADERS = {normalised(x) for x in (*CLASS_NAMES, "name", "names")}
INTEGER = re.compile(r"-?\d{1,9}")
# A line that starts with a number: "1 run", "1,run", "1: run", "1. run", "1) run", but also "100 metres".
NUMBERED = re.compile(r"(\d{1,9})([\s,;:]+|[.)]\s+)(.+)")


class LabelMap(NamedTuple):
    """The classes that labels mean.

    Attributes:
        names: class name by label.
        classes: all class names in order; None: those that occur.
        source: the file that names the classes, for messages.
    """

    names: dict[str, str]
    classes: list[str] | None
    source: str


class Line(NamedTuple):
    """A line of a class file.

    Attributes:
        location: "FILE:LINE", for messages.
        text: the line.
        number: the number that it starts with, or None.
        rest: the text after the number.
        is_field: whether the number is separated by more than a blank, such as a comma or a tab.
    """

    location: str
    text: str
    number: int | None
    rest: str
    is_field: bool


def read_classes(path: Path, labels: Collection[str] = ()) -> dict[int, str]:
    """Class names by number, of a file with a class on each line: NUMBER NAME, or only NAME, counted from 0.

    Lines NAME NUMBER are read if the numbers are 0 to n - 1 or 1 to n, and the names differ without them.

    Names may start with numbers, too ("100 metres"). The numbers at the start of all lines are class numbers
    in these cases:

    - They count the lines, 0 to n - 1 or 1 to n, in any order.
    - A separator follows each of them ("9,run", "9. run").
    - More of the `labels` are among them than among 0 to n - 1, which would be the numbers otherwise.

    If text labels match only full lines, the lines are names in any case.

    Args:
        labels: the labels that the annotation uses.

    Raises:
        DataError: a class or a number comes twice, most but not all lines are counted, the first line is a
            header, or the file can be read both ways.
    """
    if path.suffix == ".json":
        return json_classes(path)
    lines = [parse(location, text.strip()) for location, text in read_lines(path)]
    if normalised(lines[0].text) in HEADERS:
        raise DataError(f"{lines[0].location}: {lines[0].text!r} is a header, not a class; remove this line")
    if (numbered := numbers_at_the_end(lines)) and not any(x.text in labels for x in lines):
        return numbered_names(numbered)
    if has_class_numbers(path, lines, set(labels)):
        return numbered_names(lines)
    names: dict[str, int] = {}
    for number, line in enumerate(lines):
        if names.setdefault(line.text, number) != number:
            raise DataError(f"{line.location}: class {line.text!r} comes twice")
    return {number: name for name, number in names.items()}


def json_classes(path: Path) -> dict[int, str]:
    """Class names by number, of a JSON file with ["run", ...], {"run": 0, ...} or {"0": "run", ...}.

    Other JSON files name no classes: {}.

    Raises:
        DataError: it is no JSON, or a class or a number comes twice.
    """
    value = read_json(path)
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {}
    pairs = [(x, y) if INTEGER.fullmatch(str(x)) else (y, x) for x, y in value.items()]
    if not all(INTEGER.fullmatch(str(number)) and isinstance(name, str) for number, name in pairs):
        return {}
    classes = {int(number): name for number, name in pairs}
    if len(classes) < len(pairs) or len(set(classes.values())) < len(classes):
        raise DataError(f"{path}: a class or a number comes twice")
    return classes


def read_numbered_classes(path: Path) -> dict[int, str]:
    """Class names by number, of a file whose lines are all NUMBER NAME, as UCF101's classInd.txt.

    Raises:
        DataError: a line has no number, or a class or a number comes twice.
    """
    lines = [parse(location, text.strip()) for location, text in read_lines(path)]
    if unnumbered := [x for x in lines if x.number is None]:
        raise DataError(f"{unnumbered[0].location}: not NUMBER CLASS: {unnumbered[0].text!r}")
    return numbered_names(lines)


def parse(location: str, text: str) -> Line:
    """Divide a line after its leading number, if it has one."""
    match = NUMBERED.fullmatch(text)
    if match is None:
        return Line(location, text, None, text, False)
    number, separator, rest = match.groups()
    # "1,500 metres" and "12:30 lunch" are one number, "1, 500 metres" are two.
    one_number = separator in (",", ":") and rest[0].isdecimal()
    return Line(location, text, int(number), rest, bool(separator.strip(" ")) and not one_number)


def numbers_at_the_end(lines: Sequence[Line]) -> list[Line]:
    """Lines NAME NUMBER divided; [] if they are none: "gesture 1", "gesture 2" are names."""
    found = [re.fullmatch(r"(.*[^\s,;:\d])[\s,;:]+(\d{1,9})", x.text) for x in lines]
    pairs = [(x[1], int(x[2])) for x in found if x]
    counted = [list(range(first, first + len(lines))) for first in (0, 1)]
    if sorted(number for _, number in pairs) not in counted or len({name for name, _ in pairs}) < len(pairs):
        return []
    return [line._replace(number=y, rest=x) for line, (x, y) in zip(lines, pairs, strict=True)]


def has_class_numbers(path: Path, lines: Sequence[Line], labels: set[str]) -> bool:
    """Whether the leading numbers of lines are class numbers; see `read_classes`."""
    numbers = [x.number for x in lines if x.number is not None]
    integers = all(INTEGER.fullmatch(x) for x in labels)
    if len(numbers) < len(lines):
        if integers:
            refuse_partial_count(lines)
        return False
    if integers:
        used = {int(x) for x in labels}
        as_numbers, as_names = len(used.intersection(numbers)), len(used.intersection(range(len(lines))))
    else:
        as_numbers, as_names = len(labels & {x.rest for x in lines}), len(labels & {x.text for x in lines})
        if as_names and not as_numbers:
            return False
    if sorted(numbers) in (list(range(len(lines))), list(range(1, len(lines) + 1))):
        return True
    if all(x.is_field for x in lines):
        return True
    if as_numbers and as_numbers == as_names:
        raise DataError(
            f"{path}: its numbers may be class numbers or the beginnings of names; "
            f"write NUMBER NAME on each line, with the numbers 0 to {len(lines) - 1}"
        )
    return as_numbers > as_names


def refuse_partial_count(lines: Sequence[Line]) -> None:
    """Refuse a file that numbers most of its lines but not all: a label could get the class of the next line.

    Raises:
        DataError: most lines are numbered from 0 or 1 by their position, and the others have no number.
    """
    for first in (-1, 0, 1):  # -1: below a header
        counts = [x.number == i for i, x in enumerate(lines, first)]
        others = [x for x, counted in zip(lines, counts, strict=True) if not counted]
        if 2 <= sum(counts) > len(others) and all(x.number is None for x in others):
            raise DataError(f"{others[0].location}: no class number, but most other lines have one")


def numbered_names(lines: Sequence[Line]) -> dict[int, str]:
    """Names by their leading numbers, which all lines have.

    Raises:
        DataError: a class or a number comes twice.
    """
    classes: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for location, text, number, name, _ in lines:
        assert number is not None
        if number in classes:
            raise DataError(f"{location}: class number {number} comes twice: {text!r}")
        if name in numbers:
            raise DataError(
                f"{location}: class {name!r} comes twice, with the numbers {numbers[name]} and {number}; "
                "if these belong to the names, write NUMBER NAME on each line, "
                f"with the numbers 0 to {len(lines) - 1}"
            )
        classes[number], numbers[name] = name, number
    return classes


def class_file(folder: Path, used: Sequence[Path], labels: set[str]) -> tuple[Path | None, dict[int, str]]:
    """The first of `CLASS_FILES` in a folder, and its classes.

    Raises:
        DataError: another of these files has other classes.
    """
    files = [x for x in map(folder.joinpath, CLASS_FILES) if x.is_file() and x not in used]
    classes = [read_classes(x, labels) for x in files]
    for file, other in zip(files, classes, strict=True):
        if other and classes[0] and other != classes[0]:
            raise DataError(f"{files[0]} and {file.name} name the classes differently; remove one")
    return (files[0], classes[0]) if files else (None, {})


def resolve_labels(labels: set[str], folder: Path, used: Sequence[Path]) -> LabelMap:
    """The classes that labels mean: they are class names or, if all are integers, numbers of a class file.

    Without such a file the integers are the names.

    Args:
        labels: those that occur.
        folder: the folder that may hold one of `CLASS_FILES`.
        used: files of the annotation itself, which are no class files.
    """
    labels = labels.difference(UNLABELLED)
    file, classes = class_file(folder, used, labels)
    ordered = [classes[x] for x in sorted(classes)] or None
    integers = all(INTEGER.fullmatch(x) for x in labels)
    if not integers or labels <= set(classes.values()):
        return LabelMap({x: x for x in labels}, ordered, str(file))
    if not classes:
        return LabelMap({x: str(int(x)) for x in labels}, None, "")
    source = f"{file} (numbers {min(classes)} to {max(classes)})"
    return LabelMap({x: classes.get(int(x), f"number {x}") for x in labels}, ordered, source)
