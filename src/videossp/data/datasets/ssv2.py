"""Reader of Something-Something V2: JSON files of both releases, videos ID.webm or folders of frames."""

import json
from pathlib import Path
from typing import Any

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.sample import Complain, Split, VideoDataset
from videossp.data.datasets.sample_builder import SampleBuilder
from videossp.data.datasets.text import read_lines, read_text
from videossp.data.datasets.video_index import VideoIndex
from videossp.errors import DataError

RELEASES = ("something-something-v2-", "")  # what the names of the files begin with
SPLITS: tuple[tuple[Split, str], ...] = (("train", "train"), ("val", "validation"), ("test", "test"))


def is_ssv2(data: Annotation) -> bool:
    """Whether the label file and the training file of a release are here."""
    return find_release(data) is not None


def find_release(data: Annotation) -> tuple[Path, str] | None:
    """(folder, what names begin with) of the annotation."""
    for start in RELEASES:
        if home := data.home(f"{start}labels.json", f"{start}train.json"):
            return home, start
    return None


def read_ssv2(data: Annotation, fold: int, complain: Complain) -> VideoDataset:
    """Classes by their number in the label file; an item's class is its template without brackets.

    Ids stay text. The test split has labels only if test-answers.csv (ID;CLASS) is here.
    """
    release = find_release(data)
    if release is None:
        raise DataError(f"{data.root}: no labels.json and train.json, here or one folder down")
    home, start = release
    class_file = home / f"{start}labels.json"
    places = VideoIndex(data.videos)
    met = SampleBuilder(read_numbers(class_file), str(class_file), complain)
    for split, stem in SPLITS:
        file = home / f"{start}{stem}.json"
        if not file.is_file():
            continue
        answers = read_answers(home / f"{start}test-answers.csv") if split == "test" else {}
        items = load(file)
        if not isinstance(items, list) or not all(isinstance(x, dict) and "id" in x for x in items):
            raise DataError(f'{file}: expected a list of {{"id": ..., "template": ...}}')
        for i, item in enumerate(items, 1):
            name = str(item["id"])
            place = f"{file}: item {i} (id {name})"  # the file may be one long line
            template = item.get("template", answers.get(name))
            if template is None and split != "test":
                raise DataError(f"{place}: the item has no template")
            label = None if template is None else str(template).replace("[", "").replace("]", "")
            met.add(place, split, places.find(name), f"{name}.webm", label)
    return met.samples()


def load(path: Path) -> Any:
    """What a JSON file holds."""
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON that can be read: {error}") from error


def read_numbers(path: Path) -> list[str]:
    """The classes of a label file in the order of their numbers."""
    numbers = load(path)
    try:
        by_number = {int(number): name for name, number in numbers.items()}
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f'{path}: expected {{"template": "number", ...}}') from error
    if len(by_number) < len(numbers):
        raise DataError(f"{path}: {len(numbers)} classes, but {len(by_number)} numbers")
    return [by_number[x] for x in sorted(by_number)]


def read_answers(path: Path) -> dict[str, str]:
    """Class names by id of test-answers.csv, if it is there."""
    answers: dict[str, str] = {}
    for place, line in read_lines(path) if path.is_file() else []:
        name, semicolon, label = line.partition(";")
        if not semicolon:
            raise DataError(f"{place}: not ID;CLASS: {line!r}")
        if answers.setdefault(name.strip(), label.strip()) != label.strip():
            raise DataError(f"{place}: {name.strip()} has another class before")
    return answers
