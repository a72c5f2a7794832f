"""The checks of a data set: their stable ids and meanings, and the functions that run them."""

import difflib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from videossp.data.datasets import Sample, VideoDataset
from videossp.data.datasets.class_doubts import class_doubts
from videossp.data.datasets.left_out import doubtful, frame_folders, has_no_class, not_videos
from videossp.data.doctor.probe import Probe
from videossp.data.video.files import names_in
from videossp.data.video.frame_names import missing_numbers
from videossp.errors import DataError

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
# By id, which never changes: usual severity, meaning, and what to do.
CHECKS: dict[str, tuple[Severity, str, str]] = {
    "file.missing": ("error", "the video of a line is not there", "copy it, or name its folder by --videos"),
    "file.unreadable": ("error", "it cannot be decoded, or takes too long", "copy it again or leave it out"),
    "file.truncated": ("error", "it ends early", "copy it again or leave it out"),
    "file.no-video": ("error", "it has no video stream, or no frames", "leave it out"),
    "file.duplicate": ("warning", "a split has the same content twice", "leave one out"),
    "file.left-out": (
        "warning",
        "a file has no suffix of a video",
        "rename or convert it if it is one",
    ),
    "file.starts-late": ("warning", "its first frames cannot be decoded", "cut it again if they matter"),
    "file.times": ("warning", "its frame times are not in order", "re-encode it: it is read slowly"),
    "file.size-changes": ("warning", "its frame size changes", "re-encode it if the pictures are distorted"),
    "file.key-frames": ("info", "its key frames cannot be used", "re-encode it: it is read slowly"),
    "file.streams": ("info", "it has several video streams", "look whether the right one is read"),
    "frames.left-out": ("info", "pictures beside frames are not used as frames", "look at them"),
    "frames.gap": ("info", "numbers are missing between frames", "look if frames were lost"),
    "clip.too-short": ("warning", "it has fewer frames than a clip", "leave it out, or lower --frames"),
    "clip.frozen": ("warning", "all its frames are one picture", "look at it, leave it out if it is broken"),
    "class.empty": ("warning", "a class has no videos", "add some or remove the class"),
    "class.imbalanced": ("warning", "classes of very different size", "judge by the mean class accuracy"),
    "class.alike-names": ("warning", "classes with almost the same name", "merge them if they are one"),
    "class.missing-name": (
        "warning",
        "a class may be a missing label",
        "leave the field empty if it is none",
    ),
    "class.nested": ("info", "videos in sub-folders of a class", "check that it is their class"),
    "split.leak-duplicate": ("error", "two splits have the same video", "leave it out of one split"),
    "split.leak-group": ("error", "a group, or the parts of a file, in two splits", "keep it in one split"),
    "split.leak-near-duplicate": (
        "info",
        "videos of two splits look alike",
        "look at both, and leave one out if it is a copy",
    ),
    "label.unknown": ("error", "a class is not listed, or not in train", "correct label or class list"),
    "label.conflict": ("error", "two classes have the same content", "find out which is right"),
    "name.collision": ("error", "a line names a video again, or several", "correct or remove the line"),
}
EMBEDDED = {"split.leak-near-duplicate"}  # these checks compare embeddings,
HASHED = {"file.duplicate", "split.leak-duplicate", "label.conflict"}  # these checks hash files,
NOTED = {"file.starts-late", "file.times", "file.size-changes", "file.key-frames", "file.streams"}
DECODED = {"file.unreadable", "clip.frozen"} | NOTED  # these decode frames,
PROBED = {"file.truncated", "file.no-video", "clip.too-short"} | DECODED | HASHED  # and these read files
IMBALANCE = 10  # allowed ratio between the largest and the smallest class
Member = tuple[str, Sample]  # (split, sample)


@dataclass(frozen=True)
class Finding:
    """One problem of a data set.

    Attributes:
        check: id in `CHECKS`.
        message: one line that names the file and says what to do.
        videos: names of the samples that have the problem.
        severity: "error": training would stop, or its result mislead; "warning"; "info".
        split: the split of these samples; "": any.
    """

    check: str
    message: str
    videos: tuple[str, ...]
    severity: Severity
    split: str = ""


@dataclass(frozen=True)
class CheckContext:
    """The input of the checks.

    Attributes:
        data: the data set.
        problems: (check, message, video) of each problem of the annotation.
        probes: probes of the samples in their order; empty if no check needs the files.
        frames: number of frames of a clip.
    """

    data: VideoDataset
    problems: Sequence[tuple[str, str, str]]
    probes: Sequence[Probe]
    frames: int

    @cached_property
    def duplicates(self) -> list[list[Member]]:
        """Groups of samples with the same content or, if it could not be read, of the same file."""
        pairs = zip(self.data.all_samples(), self.probes, strict=True)
        return groups_by_key((x, not y.check and y.sha256 or os.path.abspath(x[1].path)) for x, y in pairs)


def select(entries: Iterable[str]) -> list[str]:
    """The checks with these ids, or with ids that start with these words.

    Raises:
        ValueError: an entry fits no check.
    """
    chosen = set()
    for entry in entries:
        words = entry.rstrip(".-")
        matches = {x for x in CHECKS if words and f"{x}.".startswith((f"{words}.", f"{words}-"))}
        if not matches:
            choices = [*CHECKS, *{x.split(".")[0] for x in CHECKS}]
            similar = difflib.get_close_matches(words, choices, 1, 0)[0]
            raise ValueError(
                f"no check {entry!r}; did you mean {similar!r}? The checks are {', '.join(CHECKS)}"
            )
        chosen |= matches
    return [x for x in CHECKS if x in chosen]


def finding(
    check: str,
    text: str,
    members: Sequence[Member] = (),
    *,
    severity: Severity | None = None,
    advice: str | None = None,
) -> Finding:
    """A finding whose message is the text and what to do.

    Args:
        members: the samples that have the problem.
        severity, advice: in place of those of `CHECKS`.
    """
    usual_severity, _, usual_advice = CHECKS[check]
    message = f"{text}{'' if text.endswith('?') else ';'} {advice or usual_advice}"
    splits = {split for split, _ in members}
    names = tuple(dict.fromkeys(x.name for _, x in members))
    return Finding(check, message, names, severity or usual_severity, *(splits if len(splits) == 1 else ()))


def groups_by_key(keyed: Iterable[tuple[Member, Hashable]]) -> list[list[Member]]:
    """Groups of at least two members with the same key."""
    groups: dict[Hashable, list[Member]] = defaultdict(list)
    for member, key in keyed:
        groups[key].append(member)
    return [x for x in groups.values() if len(x) > 1]


def listing(members: Sequence[Member]) -> str:
    """The first three members with their splits, and the number of the others."""
    first = ", ".join(f"{x.name} ({split})" for split, x in members[:3])
    return first + (f" and {len(members) - 3} more" if len(members) > 3 else "")


def annotation_problems(context: CheckContext) -> Iterator[Finding]:
    """Wrong lines of the annotation; Kinetics videos that are not on the disk."""
    for check, text, name in context.problems:
        if check == "class.empty":
            # An error, because `train` refuses the folder. The reader's text says what to do.
            yield Finding(check, text, (), "error")
        else:
            yield replace(finding(check, text), videos=(name,))
    for name in context.data.missing:
        yield replace(finding("file.missing", f"{name}: not there", severity="warning"), videos=(name,))


def unreadable_or_short(context: CheckContext) -> Iterator[Finding]:
    """Files that cannot be read; videos that are too short or frozen. Parts of a file share a finding."""
    broken: dict[tuple[str, str], list[Member]] = defaultdict(list)
    for member, probe in zip(context.data.all_samples(), context.probes, strict=True):
        if probe.check:
            broken[probe.check, probe.message].append(member)
        elif probe.frames is not None and probe.frames < context.frames:
            text = f"{probe.name}: {probe.frames} frames, a clip takes {context.frames}"
            yield finding("clip.too-short", text, [member])
        if probe.frozen:
            yield finding("clip.frozen", f"{probe.name}: all frames are the same picture", [member])
    for (check, message), members in broken.items():
        yield finding(check, message, members)


def facts_of_files(context: CheckContext) -> Iterator[Finding]:
    """Files that can be read, but not as their container says. Parts of a file share a finding."""
    members: dict[tuple[str, str, str], list[Member]] = defaultdict(list)
    for member, probe in zip(context.data.all_samples(), context.probes, strict=True):
        for check, text in probe.notes:
            members[member[1].path, check, text].append(member)
    for (_, check, text), group in members.items():
        yield finding(check, f"{group[0][1].name}: {text}", group)


def class_sizes(context: CheckContext) -> Iterator[Finding]:
    """Classes without videos, without training videos, or of very different size."""
    classes, members = context.data.classes, context.data.all_samples()
    already_reported = any(check == "class.empty" for check, _, _ in context.problems)
    by_label: dict[int, list[Member]] = defaultdict(list)
    for split, sample in members:
        by_label[sample.label].append((split, sample))
    train = Counter(x.label for x in context.data.splits.get("train", []))
    for label, name in enumerate(classes):
        if not by_label[label] and not already_reported:
            yield finding("class.empty", f"class {name!r} has no videos")
        elif by_label[label] and train and not train[label]:
            text = f"class {name!r} has no video in train, but {listing(by_label[label])}"
            yield finding("label.unknown", text, by_label[label])
    if train:
        (largest, most), (smallest, fewest) = train.most_common()[0], train.most_common()[-1]
        if most > IMBALANCE * fewest:
            text = f"train has {most} videos of {classes[largest]!r} and {fewest} of {classes[smallest]!r}"
            yield finding("class.imbalanced", text)


def doubtful_classes(context: CheckContext) -> Iterator[Finding]:
    """Doubts about classes and class folders; see `class_doubts`."""
    for check, text, advice, is_warning, members in class_doubts(context.data):
        yield finding(check, text, members, severity="warning" if is_warning else None, advice=advice)


def files_left_out(context: CheckContext) -> Iterator[Finding]:
    """Files that may be videos, but are not used as such."""
    for sort in not_videos(doubtful(context.data.ignored)):
        advice = None
        if has_no_class(sort.names[0]):
            in_folders = context.data.origin.get("format") == "folder"
            advice = "move it to the folder of its class" if in_folders else "list it if it is wanted"
        yield replace(finding("file.left-out", sort.line, advice=advice), videos=tuple(sort.names))


def doubtful_frames(context: CheckContext) -> Iterator[Finding]:
    """Folders of frames with other pictures, or with missing numbers; one finding for all folders."""
    left_out: dict[str, list[str]] = {}
    gaps: dict[str, int] = {}
    for name, path in frame_folders(context.data).items():
        try:
            names = names_in(Path(path))
        except DataError:
            continue  # found by the reading of the frames
        if names.others:
            left_out[name] = names.others
        if count := missing_numbers(names.orders):
            gaps[name] = count
    if left_out:
        name, others = next(iter(left_out.items()))
        pictures, folders = sum(map(len, left_out.values())), len(left_out)
        text = f"{pictures:,} pictures in {folders:,} folders of frames are not used as frames, "
        text += f"such as {name}/{others[0]}"
        yield replace(finding("frames.left-out", text), videos=tuple(left_out))
    if gaps:
        name, count = next(iter(gaps.items()))
        text = f"{sum(gaps.values()):,} numbers are missing between the frames of {len(gaps):,} videos, "
        text += f"such as {name} ({count:,})"
        yield replace(finding("frames.gap", text), videos=tuple(gaps))


def split_pairs(members: Sequence[Member]) -> Iterator[tuple[str, list[Member], list[Member]]]:
    """(split, its members, members of later splits) where train or val share members with a later split."""
    for split, later in {"train": ("val", "test"), "val": ("test",)}.items():
        here, others = ([x for x in members if x[0] in splits] for splits in ((split,), later))
        if here and others:
            yield split, here, others


def shared_videos(context: CheckContext) -> Iterator[Finding]:
    """The same video in two splits. Parts of a file count if they overlap; see also `shared_groups`."""
    val_in_test: list[Member] = []
    for members in context.duplicates:
        for split, here, others in split_pairs(members):
            leaked, copies = overlapping(here, others), overlapping(others, here)
            if split == "val":
                val_in_test += leaked
            elif leaked:
                text = f"{listing(leaked)} is the same video as {listing(copies)}"
                yield finding("split.leak-duplicate", text, leaked)
    if val_in_test:
        count = f"{len(val_in_test)} of {len(context.data.splits['val'])}"
        text = f"{count} videos of val are in test as well: {listing(val_in_test)}"
        advice = "the epoch would be selected on the test split: leave them out of val"
        yield finding("split.leak-duplicate", text, val_in_test, severity="warning", advice=advice)


def shared_groups(context: CheckContext) -> Iterator[Finding]:
    """A group in two splits; the parts of a file are a group."""
    grouped = [x for x in context.data.all_samples() if x[1].group or x[1].is_part]
    for members in groups_by_key((x, x[1].group or os.path.abspath(x[1].path)) for x in grouped):
        for split, here, others in split_pairs(members):
            name = members[0][1].group or members[0][1].path
            text = f"{name}: {listing(here)} and {listing(others)} belong together"
            yield finding("split.leak-group", text, here, severity=None if split == "train" else "warning")


def overlapping(members: Sequence[Member], others: Sequence[Member]) -> list[Member]:
    """The members whose part of the file overlaps in time with one of the others."""
    parts = {y.part: y for _, y in others}
    return [x for x in members if any(x[1].overlaps(y) for y in parts.values())]


def same_contents(context: CheckContext) -> Iterator[Finding]:
    """The same content in two classes, or twice in a split."""
    for duplicates in context.duplicates:
        for members in groups_by_key((x, (x[1].start or 0, x[1].end, x[1].frames)) for x in duplicates):
            if len({x.label for _, x in members}) > 1:
                with_class = [
                    (f"{split}, class {context.data.classes[x.label]!r}", x) for split, x in members
                ]
                yield finding("label.conflict", f"the same video: {listing(with_class)}", members)
                continue
            for copies in groups_by_key((x, x[0]) for x in members):
                yield finding("file.duplicate", f"the same video: {listing(copies)}", copies[1:])


def base_names(context: CheckContext) -> Iterator[Finding]:
    """Different test videos with the same base name, which published code would merge."""
    tested = [x for x in context.data.all_samples() if x[0] != "train" or len(context.data.splits) == 1]
    groups = groups_by_key((x, (x[0], x[1].base_name)) for x in tested)
    if groups:
        members = [x for group in groups for x in group]
        text = f"{len(members)} videos share {len(groups)} base names, such as {listing(groups[0])}"
        advice = "the published evaluation would merge their scores, videossp does not"
        yield finding("name.collision", text, members, severity="info", advice=advice)


# (ids that a function can find, the function)
CHECK_FUNCTIONS: tuple[tuple[set[str], Callable[[CheckContext], Iterator[Finding]]], ...] = (
    (set(CHECKS), annotation_problems),
    (PROBED, unreadable_or_short),
    (NOTED, facts_of_files),
    ({"class.empty", "class.imbalanced", "label.unknown"}, class_sizes),
    ({"class.alike-names", "class.missing-name", "class.nested", "file.duplicate"}, doubtful_classes),
    ({"file.left-out"}, files_left_out),
    ({"frames.left-out", "frames.gap"}, doubtful_frames),
    ({"split.leak-duplicate"}, shared_videos),
    ({"split.leak-group"}, shared_groups),
    ({"label.conflict", "file.duplicate"}, same_contents),
    ({"name.collision"}, base_names),
)
