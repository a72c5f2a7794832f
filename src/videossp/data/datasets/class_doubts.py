"""Classes and class folders that are probably mistakes: alike or missing names, a wrong level, copies."""

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from videossp.data.datasets.sample import Sample, VideoDataset
from videossp.data.datasets.splits import SPLITS
from videossp.data.video import VIDEO_SUFFIXES

MISSING = {"nan", "na", "n/a", "<na>", "none", "null"}  # of pandas, R, Python, JSON


class Doubt(NamedTuple):
    """A doubt about the classes.

    Attributes:
        check: id of the doctor's check.
        text: the doubt in one line.
        advice: what to do.
        is_warning: whether it is probably a mistake; else it is only worth knowing.
        samples: (split, sample) of the videos concerned.
    """

    check: str
    text: str
    advice: str
    is_warning: bool
    samples: list[tuple[str, Sample]]


def class_doubts(data: VideoDataset) -> list[Doubt]:
    """All doubts about the classes of a data set."""
    return [*alike_names(data.classes), *missing_names(data), *nested_videos(data), *same_stems(data)]


def class_warnings(data: VideoDataset) -> list[str]:
    """The doubts that are probably mistakes, as lines."""
    return [f"{x.text}; {x.advice}" for x in class_doubts(data) if x.is_warning]


def alike_names(classes: Iterable[str]) -> list[Doubt]:
    """Classes whose names differ only in case, blanks or the form of their Unicode characters."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
        groups["".join(x for x in plain if not x.isspace() and x != "_")].append(name)
    return [
        Doubt(
            "class.alike-names",
            f"the classes {', '.join(quoted(names))} differ only in case, blanks or Unicode form",
            "merge them if they are one",
            True,
            [],
        )
        for names in groups.values()
        if len(names) > 1
    ]


def missing_names(data: VideoDataset) -> list[Doubt]:
    """Classes whose names programs write for a missing value."""
    found = [x for x in data.classes if x.casefold() in MISSING]
    if not found:
        return []
    samples = [x for x in data.all_samples() if data.classes[x[1].label] in found]
    text = f"class {' and class '.join(map(repr, found))} may be a missing label"
    return [Doubt("class.missing-name", text, "leave the field empty if it is none", True, samples)]


def same_stems(data: VideoDataset) -> list[Doubt]:
    """Videos beside each other whose names differ only in the suffix, in a folder of classes."""
    if data.origin.get("format") != "folder":
        return []
    groups: dict[str, list[tuple[str, Sample]]] = defaultdict(list)
    for split, sample in data.all_samples():
        stem, suffix = os.path.splitext(sample.name)
        groups[stem if suffix.lower() in VIDEO_SUFFIXES else sample.name].append((split, sample))
    if not (twice := [x for x in groups.values() if len(x) > 1]):
        return []
    text = f"{len(twice):,} video{'s' * (len(twice) > 1)} in several forms, such as "
    text += " and ".join(x.name for _, x in twice[0])
    samples = [x for group in twice for x in group[1:]]
    return [Doubt("file.duplicate", text, "keep one of them", True, samples)]


def quoted(names: list[str]) -> list[str]:
    """Names in quotes; with escapes where they would look the same, as two forms of an accented letter."""
    look_the_same = len({unicodedata.normalize("NFC", x) for x in names}) < len(names)
    return [ascii(x) if look_the_same else repr(x) for x in names]


def nested_videos(data: VideoDataset) -> list[Doubt]:
    """Videos in sub-folders of their class folders, in a data set that is a folder of classes."""
    if data.origin.get("format") != "folder":
        return []
    nested: list[tuple[str, Sample]] = []
    sub_folders: set[tuple[str, str]] = set()  # (class, name of a folder in its folder)
    direct = set()  # classes with videos right in their folders
    for split, sample in data.all_samples():
        parts = sample.name.split("/")
        below = parts[2:] if parts[0].lower() in SPLITS else parts[1:]  # below the class folder
        if len(below) > 1:
            nested.append((split, sample))
            sub_folders.add((data.classes[sample.label], below[0]))
        else:
            direct.add(data.classes[sample.label])
    if not nested:
        return []
    uses = Counter(name for _, name in sub_folders)
    repeated = sorted(x for x in uses if uses[x] > 1)
    example = nested[0][1]
    videos = f"{len(nested):,} video{'s' * (len(nested) > 1)}"
    text = f"{videos} in sub-folders of class folders, such as {example.name}, of class "
    text += repr(data.classes[example.label])
    if not direct and 2 * sum(uses[x] for x in repeated) >= len(sub_folders):
        more = f" and {len(repeated) - 3:,} more" if len(repeated) > 3 else ""
        text += f"; the class folders have sub-folders of the same names ({', '.join(repeated[:3])}{more})"
        return [Doubt("class.nested", text, "if these are the classes, move them to the top", True, nested)]
    return [Doubt("class.nested", text, "check that it is their class", False, nested)]
