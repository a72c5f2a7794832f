"""Reader of Breakfast: PERSON/CAMERA/PERSON_ACTIVITY.avi, splits by person, or ViS4mer's CSV lists."""

import re
from pathlib import Path

from videossp.data.datasets.annotation import Annotation
from videossp.data.datasets.sample import Complain, VideoDataset
from videossp.data.datasets.sample_builder import SampleBuilder
from videossp.data.datasets.text import read_rows, split_named
from videossp.data.datasets.video_index import Found, VideoIndex
from videossp.data.video import is_video
from videossp.errors import DataError

# In the order of class_id in the published lists.
# fmt: off
ACTIVITIES = (
    "cereals", "coffee", "tea", "pancake", "friedegg", "scrambledegg", "sandwich", "juice", "milk", "salat",
)
# fmt: on
PERSONS = {1: range(3, 16), 2: range(16, 29), 3: range(29, 42), 4: range(42, 55)}  # tested in each fold
PERSON = "P[0-9][0-9]"


def is_breakfast(data: Annotation) -> bool:
    """Whether the tree, here or one folder down, has persons with cameras."""
    return bool(bases(data.videos))


def bases(root: Path) -> list[Path]:
    """The folders that hold the persons: this one, else those right below."""
    for tree in (f"{PERSON}/*/{PERSON}_*", f"*/{PERSON}/*/{PERSON}_*"):
        videos = (x for x in root.glob(tree) if re.split(r"[_.]", x.name)[1] in ACTIVITIES)
        if found := sorted({x.parents[2] for x in videos}):
            return found
    return []


def read_breakfast(data: Annotation, fold: int, complain: Complain) -> VideoDataset:
    """One of the four splits by person: those of `fold` are tested, the others train.

    If the folder holds CSV lists with the columns file_name and action (ViS4mer's), they decide instead.
    A sample's name holds person and camera: the same base name stands for several videos. Groups are the
    persons.
    """
    found = bases(data.videos)
    if not found:
        raise DataError(f"{data.videos}: no P03/CAMERA/P03_ACTIVITY.avi, here or one folder down")
    if len(found) > 1:
        raise DataError(f"{data.videos}: Breakfast lies in several folders: {found[0]}, {found[1]}")
    met = SampleBuilder(ACTIVITIES, "the ten activities of Breakfast", complain)
    lists = data.tables(lambda header: {"file_name", "action"} <= header, down=True)
    if fold not in PERSONS or (lists and fold != 1):
        folds = "leave it out: the lists have one" if lists else "it is 1, 2, 3 or 4"
        raise DataError(f"{data.root}: no fold {fold} of Breakfast; --fold: {folds}")
    return read_lists(lists, found[0], met) if lists else read_tree(found[0], PERSONS[fold], met)


def read_lists(lists: list[Path], base: Path, met: SampleBuilder) -> VideoDataset:
    """ViS4mer's lists, whose rows are PERSON-CAMERA-VIDEO."""
    places = VideoIndex(base)
    for file in lists:
        split = split_named(file.stem)
        if split is None:
            raise DataError(f"{file}: its name tells no split; expected train.csv, val.csv, test.csv")
        for row in read_rows(file):
            person, camera, video = [*row.cells["file_name"].split("-", 2), "", ""][:3]
            if not video:
                raise DataError(f"{row.place}: not PERSON-CAMERA-VIDEO: {row.cells['file_name']!r}")
            found = [x for x in places.find(video) if x.name.startswith(f"{person}/{camera}/")]
            met.add(row.place, split, found, f"{person}/{camera}/{video}", row.cells["action"], group=person)
    return met.samples()


def read_tree(base: Path, tested: range, met: SampleBuilder) -> VideoDataset:
    """The videos of all persons, those of some to be tested."""
    ignored = []
    for path in sorted(base.glob(f"{PERSON}/*/*")):
        name, person = path.relative_to(base).as_posix(), path.parts[-3]
        words = re.match(rf"{person}_([a-z]+)", path.name)
        if words is None or not is_video(path):
            ignored.append(name)
            continue
        split = "test" if int(person[1:]) in tested else "train"
        met.add(str(path), split, [Found(str(path), name)], name, words[1], group=person)
    return met.samples(ignored=ignored)
