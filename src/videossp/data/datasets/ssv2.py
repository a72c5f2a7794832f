"""Reader of Something-Something V2: JSON files of both releases, and videos ID.webm or folders of frames."""

from pathlib import Path

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.sample import ReportProblem, VideoDataset
from videossp.data.datasets.sample_builder import SampleBuilder
from videossp.data.datasets.splits import Split
from videossp.data.datasets.text import read_json, read_lines
from videossp.data.datasets.video_index import VideoIndex
from videossp.errors import DataError

PREFIXES = ("something-something-v2-", "")  # of the file names in the two releases
SPLITS: tuple[tuple[Split, str], ...] = (("train", "train"), ("val", "validation"), ("test", "test"))


def is_ssv2(data: Annotation) -> bool:
    """Whether the label file and the training file of a release are there."""
    return find_release(data) is not None


def find_release(data: Annotation) -> tuple[Path, str] | None:
    """(folder, prefix of the file names) of the annotation."""
    for prefix in PREFIXES:
        if home := data.home(f"{prefix}labels.json", f"{prefix}train.json"):
            return home, prefix
    return None


def read_ssv2(data: Annotation, fold: int, report_problem: ReportProblem) -> VideoDataset:
    """Read all splits. Classes are in the order of the label file's numbers.

    The class of an item is its template without brackets. Ids may be text or numbers. The test split has
    labels only if test-answers.csv (ID;CLASS) is there.
    """
    release = find_release(data)
    if release is None:
        raise DataError(f"{data.root}: no labels.json and train.json, here or one folder down")
    home, prefix = release
    class_file = home / f"{prefix}labels.json"
    videos = VideoIndex(data.videos)
    builder = SampleBuilder(read_numbers(class_file), str(class_file), report_problem)
    for split, stem in SPLITS:
        file = home / f"{prefix}{stem}.json"
        if not file.is_file():
            continue
        answers = read_answers(home / f"{prefix}test-answers.csv") if split == "test" else {}
        items = read_json(file)
        if not isinstance(items, list) or not all(isinstance(x, dict) and "id" in x for x in items):
            raise DataError(f'{file}: expected a list of {{"id": ..., "template": ...}}')
        for i, item in enumerate(items, 1):
            name = str(item["id"])
            location = f"{file}: item {i} (id {name})"  # no line number: the file may be one long line
            template = item.get("template", answers.get(name))
            if template is None and split != "test":
                raise DataError(f"{location}: the item has no template")
            label = None if template is None else str(template).replace("[", "").replace("]", "")
            builder.add(location, split, videos.find(name), f"{name}.webm", label)
    return builder.build()


def read_numbers(path: Path) -> list[str]:
    """The classes of a label file in the order of their numbers.

    Raises:
        DataError: it is no object of names and numbers, or two classes have one number.
    """
    numbers = read_json(path)
    try:
        by_number = {int(number): name for name, number in numbers.items()}
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f'{path}: expected {{"template": "number", ...}}') from error
    if len(by_number) < len(numbers):
        raise DataError(f"{path}: {len(numbers)} classes, but {len(by_number)} numbers")
    return [by_number[x] for x in sorted(by_number)]


def read_answers(path: Path) -> dict[str, str]:
    """Class names by id of test-answers.csv; {} if there is no such file."""
    answers: dict[str, str] = {}
    for location, line in read_lines(path) if path.is_file() else []:
        name, semicolon, label = line.partition(";")
        if not semicolon:
            raise DataError(f"{location}: not ID;CLASS: {line!r}")
        if answers.setdefault(name.strip(), label.strip()) != label.strip():
            raise DataError(f"{location}: {name.strip()} has another class before")
    return answers
