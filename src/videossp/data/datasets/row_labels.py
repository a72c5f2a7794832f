"""The class name and class number of each row of a table."""

import re
from collections.abc import Iterable, Sequence

from videossp.data.datasets.classes import INTEGER, UNLABELLED
from videossp.data.datasets.columns import label_positions
from videossp.data.datasets.records import Records
from videossp.errors import DataError


def names_and_numbers(table: Records) -> tuple[list[str], list[str]]:
    """The class name and the class number of each row; "" where there is none.

    Raises:
        DataError: two columns of names, or of numbers, may be the class, and they differ.
    """
    names, numbers = label_positions(table.columns)
    fields = {i: without_decimals([row.fields[i] for row in table.rows]) for i in (*names, *numbers)}
    numeric = {i for i in names if all(INTEGER.fullmatch(x) or not x for x in fields[i])}
    names.sort(key=lambda i: i in numeric)  # of class "run" and label "0" the text is the name
    result = []
    for found in (names, numbers):
        values = fields[found[0]] if found else [""] * len(table.rows)
        for other in found[1:]:
            known = _translation(table, found[0], other)
            values = [x or known.get(y, y) for x, y in zip(values, fields[other], strict=True)]
        result.append(values)
    if not numbers and names and names[0] not in numeric and names[-1] in numeric:
        result[1] = fields[names[-1]]
    return result[0], result[1]


def without_decimals(values: list[str]) -> list[str]:
    """3 for 3.0 if all values are such: pandas writes whole numbers so if a field of the column is empty."""
    decimals = all(re.fullmatch(r"-?\d{1,9}\.0+", x) for x in values if x)
    return [x.split(".")[0] for x in values] if decimals else values


def refuse_several_labels(table: Records, labels: Sequence[str], classes: set[str]) -> None:
    """Refuse several labels in one field: a list, or classes of other videos with a separator.

    Args:
        labels: the class of each row.
        classes: all of them.

    Raises:
        DataError: a field has several.
    """
    for label, row in dict(zip(labels, table.rows, strict=True)).items():
        several = bool(re.match(r"[\[(]['\"\d]", label))  # a list in Python's or JSON's form
        for separator in ",;|":
            parts = {x.strip() for x in label.split(separator)}
            several = several or (len(parts) > 1 and parts <= classes)
        if several:
            raise DataError(
                f"{row.location}: {label!r} is a list of labels: several labels of a video are not "
                "supported; write one"
            )


def _translation(table: Records, first: int, second: int) -> dict[str, str]:
    """The values of one column by those of another; both name the same classes, one to one.

    Raises:
        DataError: they do not.
    """
    there: dict[str, str] = {}
    back: dict[str, str] = {}
    for row in table.rows:
        a, b = row.fields[first], row.fields[second]
        if (
            a not in UNLABELLED
            and b not in UNLABELLED
            and (there.setdefault(a, b) != b or back.setdefault(b, a) != a)
        ):
            names = f"{table.columns[first]} and {table.columns[second]}"
            raise DataError(
                f"{table.location}: the columns {names} may both be the class, and they differ "
                f"({row.location}: {a!r} and {b!r}); remove one"
            )
    return back


def numbers_of(triples: Iterable[tuple[str, str, str]]) -> dict[str, int]:
    """Class numbers by name, from the (location, name, number) of the rows that have both.

    Raises:
        DataError: a class has two numbers, or a number has two classes.
    """
    numbers: dict[str, int] = {}
    names: dict[int, str] = {}
    for location, name, text in triples:
        if name in UNLABELLED or not text:
            continue
        if not re.fullmatch(r"\d{1,9}", text):
            raise DataError(f"{location}: class number {text!r} is not a whole number")
        number = int(text)
        if (before := numbers.setdefault(name, number)) != number:
            raise DataError(f"{location}: class {name!r} is number {number} here and {before} before")
        if (other := names.setdefault(number, name)) != name:
            raise DataError(f"{location}: number {number} is class {name!r} here and {other!r} before")
    return numbers
