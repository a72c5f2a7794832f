"""Reader of Breakfast: PERSON/CAMERA/PERSON_ACTIVITY.avi, split by person or by ViS4mer's CSV lists."""

import re
from pathlib import Path

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.sample import ReportProblem, VideoDataset
from videossp.data.datasets.sample_builder import SampleBuilder
from videossp.data.datasets.splits import split_in_name
from videossp.data.datasets.video_index import VideoIndex, VideoPath
from videossp.data.video import is_video
from videossp.data.video.files import visible
from videossp.errors import DataError

# In the order of class_id in the published lists.
# fmt: off
ACTIVITIES = (
    "cereals", "coffee", "tea", "pancake", "friedegg", "scrambledegg", "sandwich", "juice", "milk", "salat",
)
# fmt: on
TEST_PERSONS = {1: range(3, 16), 2: range(16, 29), 3: range(29, 42), 4: range(42, 55)}  # by fold
PERSON = "P[0-9][0-9]"


def is_breakfast(data: Annotation) -> bool:
    """Whether the tree, here or one folder down, has persons with cameras."""
    return bool(person_roots(data.videos))


def person_roots(root: Path) -> list[Path]:
    """The folders that contain folders of persons: this one, else those one folder down."""
    for tree in (f"{PERSON}/*/{PERSON}_*", f"*/{PERSON}/*/{PERSON}_*"):
        videos = (x for x in root.glob(tree) if re.split(r"[_.]", x.name)[1] in ACTIVITIES)
        if roots := sorted({x.parents[2] for x in videos}):
            return roots
    return []


def read_breakfast(data: Annotation, fold: int, report_problem: ReportProblem) -> VideoDataset:
    """Read one of the four splits by person: the persons of `fold` are tested, the others train.

    CSV lists with the columns file_name and action (ViS4mer's) replace this split. Person and camera are part
    of a sample's name, because videos of several cameras have the same base name. Groups are the persons.
    """
    roots = person_roots(data.videos)
    if not roots:
        raise DataError(f"{data.videos}: no P03/CAMERA/P03_ACTIVITY.avi, here or one folder down")
    if len(roots) > 1:
        raise DataError(f"{data.videos}: Breakfast is in several folders: {roots[0]}, {roots[1]}")
    builder = SampleBuilder(ACTIVITIES, "the ten activities of Breakfast", report_problem)
    lists = data.tables(lambda file: data.has_columns(file, "file_name", "action"), below=True)
    if fold not in TEST_PERSONS or (lists and fold != 1):
        folds = "leave it out: the lists have one" if lists else "it is 1, 2, 3 or 4"
        raise DataError(f"{data.root}: no fold {fold} of Breakfast; --fold: {folds}")
    return (
        read_lists(data, lists, roots[0], builder)
        if lists
        else read_tree(roots[0], TEST_PERSONS[fold], builder)
    )


def read_lists(data: Annotation, lists: list[Path], root: Path, builder: SampleBuilder) -> VideoDataset:
    """Read ViS4mer's lists, whose rows are PERSON-CAMERA-VIDEO."""
    videos = VideoIndex(root)
    for file in lists:
        split = split_in_name(file.stem)
        if split is None:
            raise DataError(f"{file}: no split in its name; expected train.csv, val.csv, test.csv")
        table = data.records(file)
        for row, text, action in zip(
            table.rows, table.values("file_name"), table.values("action"), strict=True
        ):
            person, camera, video = [*text.split("-", 2), "", ""][:3]
            if not video:
                raise DataError(f"{row.location}: not PERSON-CAMERA-VIDEO: {text!r}")
            candidates = [x for x in videos.find(video) if x.name.startswith(f"{person}/{camera}/")]
            name = f"{person}/{camera}/{video}"
            builder.add(row.location, split, candidates, name, action, group=person)
    return builder.build()


def read_tree(root: Path, test_persons: range, builder: SampleBuilder) -> VideoDataset:
    """Read the videos of all persons, and split them by person."""
    ignored = []
    for path in sorted(x for x in root.glob(f"{PERSON}/*/*") if visible(x.name)):
        name, person = path.relative_to(root).as_posix(), path.parts[-3]
        activity = re.match(rf"{person}_([a-z]+)", path.name)
        if activity is None or not is_video(path):
            ignored.append(name)
            continue
        split = "test" if int(person[1:]) in test_persons else "train"
        builder.add(str(path), split, [VideoPath(str(path), name)], name, activity[1], group=person)
    return builder.build(ignored=ignored)
