"""The checks of a data set: stable ids, what each means, and the functions that look."""

import difflib
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from videossp.data.datasets import Sample, VideoDataset
from videossp.data.doctor.probe import Probe

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
# By id, which never changes: usual severity, what it means, what to do.
CHECKS: dict[str, tuple[Severity, str, str]] = {
    "file.missing": ("error", "the video of a line is not there", "copy it, or name its folder by --videos"),
    "file.unreadable": ("error", "it cannot be decoded, or takes too long", "copy it again or leave it out"),
    "file.truncated": ("error", "it ends early", "copy it again or leave it out"),
    "file.no-video": ("error", "it has no video stream, or no frames", "leave it out"),
    "file.duplicate": ("warning", "a split has the same content twice", "leave one out"),
    "clip.too-short": ("warning", "it has fewer frames than a clip", "leave it out, or lower --frames"),
    "clip.frozen": ("warning", "all its frames are one picture", "look at it, leave it out if it is broken"),
    "class.empty": ("warning", "a class has no videos", "add some or remove the class"),
    "class.imbalanced": ("warning", "classes of very different size", "judge by the mean class accuracy"),
    "split.leak-duplicate": ("error", "two splits have the same video", "leave it out of one split"),
    "split.leak-group": ("error", "a group, or the parts of a file, in two splits", "keep it in one split"),
    "label.unknown": ("error", "a class is not listed, or not in train", "correct label or class list"),
    "label.conflict": ("error", "two classes have the same content", "find out which is right"),
    "name.collision": ("error", "a line names a video again, or several", "correct or remove the line"),
}
HASHED = {"file.duplicate", "split.leak-duplicate", "label.conflict"}  # need the contents of files,
DECODED = {"file.unreadable", "clip.frozen"}  # their frames,
PROBED = {"file.truncated", "file.no-video", "clip.too-short"} | DECODED | HASHED  # the files at all
IMBALANCE = 10  # times the videos of the smallest class
Member = tuple[str, Sample]  # its split, and it


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        check: id in `CHECKS`.
        message: one line that names the file and says what to do.
        videos: names of the samples that are to blame.
        severity: "error": training would stop or mislead; "warning"; "info".
        split: the split whose samples of these names are meant; "": any.
    """

    check: str
    message: str
    videos: tuple[str, ...]
    severity: Severity
    split: str = ""


@dataclass(frozen=True)
class CheckContext:
    """What the checks look at: a data set, (check, message, video) of what its reader complained of, probes
    of its samples in their order (or none), and the frames of a clip."""

    data: VideoDataset
    complaints: Sequence[tuple[str, str, str]]
    probes: Sequence[Probe]
    frames: int

    @cached_property
    def alike(self) -> list[list[Member]]:
        """Samples of one file or, if it can be read, one content, where there are several."""
        pairs = zip(self.data.every(), self.probes, strict=True)
        return together((x, not y.check and y.sha256 or os.path.abspath(x[1].path)) for x, y in pairs)


def select(entries: Iterable[str]) -> list[str]:
    """The checks of these ids, or whose ids begin with these words."""
    chosen = set()
    for entry in entries:
        words = entry.rstrip(".-")
        hits = {x for x in CHECKS if words and f"{x}.".startswith((f"{words}.", f"{words}-"))}
        if not hits:
            near = difflib.get_close_matches(words, [*CHECKS, *{x.split(".")[0] for x in CHECKS}], 1, 0)[0]
            raise ValueError(f"no check {entry!r}; did you mean {near!r}? There are {', '.join(CHECKS)}")
        chosen |= hits
    return [x for x in CHECKS if x in chosen]


def finding(
    check: str,
    text: str,
    blamed: Sequence[Member] = (),
    *,
    severity: Severity | None = None,
    mend: str | None = None,
) -> Finding:
    """A finding of the usual severity, with what to do behind its text, unless told otherwise."""
    usual, _, advice = CHECKS[check]
    message = f"{text}{'' if text.endswith('?') else ';'} {mend or advice}"
    splits = {split for split, _ in blamed}
    names = tuple(dict.fromkeys(x.name for _, x in blamed))
    return Finding(check, message, names, severity or usual, *(splits if len(splits) == 1 else ()))


def together(keyed: Iterable[tuple[Member, Hashable]]) -> list[list[Member]]:
    """Members with the same key, of the keys that several have."""
    groups: dict[Hashable, list[Member]] = defaultdict(list)
    for member, key in keyed:
        groups[key].append(member)
    return [x for x in groups.values() if len(x) > 1]


def told(members: Sequence[Member]) -> str:
    """The first of them with their splits, and how many more there are."""
    first = ", ".join(f"{x.name} ({split})" for split, x in members[:3])
    return first + (f" and {len(members) - 3} more" if len(members) > 3 else "")


def lines(case: CheckContext) -> Iterator[Finding]:
    """Lines of the annotation that are wrong; Kinetics videos that are gone."""
    for check, text, name in case.complaints:
        if check == "class.empty":
            # A folder that stops `train`; its reader says what to do.
            yield Finding(check, text, (), "error")
        else:
            yield replace(finding(check, text), videos=(name,))
    for name in case.data.missing:
        yield replace(finding("file.missing", f"{name}: not there", severity="warning"), videos=(name,))


def files(case: CheckContext) -> Iterator[Finding]:
    """Files that cannot be read; videos too short or frozen. Parts of a file share what is wrong with it."""
    broken: dict[tuple[str, str], list[Member]] = defaultdict(list)
    for member, probe in zip(case.data.every(), case.probes, strict=True):
        if probe.check:
            broken[probe.check, probe.message].append(member)
        elif probe.frames is not None and probe.frames < case.frames:
            text = f"{probe.name}: {probe.frames} frames, a clip takes {case.frames}"
            yield finding("clip.too-short", text, [member])
        if probe.frozen:
            yield finding("clip.frozen", f"{probe.name}: all frames are the same picture", [member])
    for (check, message), members in broken.items():
        yield finding(check, message, members)


def class_sizes(case: CheckContext) -> Iterator[Finding]:
    """Classes without videos, without training videos, or of very different size."""
    classes, members = case.data.classes, case.data.every()
    told_before = any(check == "class.empty" for check, _, _ in case.complaints)
    of_label: dict[int, list[Member]] = defaultdict(list)
    for split, sample in members:
        of_label[sample.label].append((split, sample))
    train = Counter(x.label for x in case.data.splits.get("train", []))
    for label, name in enumerate(classes):
        if not of_label[label] and not told_before:
            yield finding("class.empty", f"class {name!r} has no videos")
        elif of_label[label] and train and not train[label]:
            text = f"class {name!r} has no video in train, but {told(of_label[label])}"
            yield finding("label.unknown", text, of_label[label])
    if train:
        (most, large), (least, small) = train.most_common()[0], train.most_common()[-1]
        if large > IMBALANCE * small:
            text = f"train has {large} videos of {classes[most]!r} and {small} of {classes[least]!r}"
            yield finding("class.imbalanced", text)


def sides(members: Sequence[Member]) -> Iterator[tuple[str, list[Member], list[Member]]]:
    """Split, its members, those of the splits that judge what came of it: for train and val, if there are."""
    for split, later in {"train": ("val", "test"), "val": ("test",)}.items():
        own, others = ([x for x in members if x[0] in some] for some in ((split,), later))
        if own and others:
            yield split, own, others


def shared_videos(case: CheckContext) -> Iterator[Finding]:
    """One video in two splits. Different parts of one file are not one video, but see `shared_groups`."""
    twice: list[Member] = []
    for members in case.alike:
        for split, own, others in sides(members):
            same, too = meeting(own, others), meeting(others, own)
            if split == "val":
                twice += same
            elif same:
                text = f"{told(same)} is the same video as {told(too)}"
                yield finding("split.leak-duplicate", text, same)
    if twice:
        count = f"{len(twice)} of {len(case.data.splits['val'])}"
        text = f"{count} videos of val are in test as well: {told(twice)}"
        mend = "the epoch would be chosen on the test split: leave them out of val"
        yield finding("split.leak-duplicate", text, twice, severity="warning", mend=mend)


def shared_groups(case: CheckContext) -> Iterator[Finding]:
    """A group in two splits; the parts of a file are one."""
    grouped = [x for x in case.data.every() if x[1].group or x[1].start or x[1].end]
    for members in together((x, x[1].group or os.path.abspath(x[1].path)) for x in grouped):
        for split, own, others in sides(members):
            name = members[0][1].group or members[0][1].path
            text = f"{name}: {told(own)} and {told(others)} belong together"
            yield finding("split.leak-group", text, own, severity=None if split == "train" else "warning")


def meeting(members: Sequence[Member], others: Sequence[Member]) -> list[Member]:
    """Those whose part of the file has a moment in common with that of one of the others."""
    spans = {(y.start or 0.0, y.end or math.inf) for _, y in others}
    return [x for x in members if any((x[1].start or 0) < e and s < (x[1].end or math.inf) for s, e in spans)]


def same_contents(case: CheckContext) -> Iterator[Finding]:
    """One content under two classes, or twice in a split."""
    for alike in case.alike:
        for members in together((x, (x[1].start or 0, x[1].end)) for x in alike):
            if len({x.label for _, x in members}) > 1:
                classed = [(f"{split}, class {case.data.classes[x.label]!r}", x) for split, x in members]
                yield finding("label.conflict", f"the same video: {told(classed)}", members)
                continue
            for own in together((x, x[0]) for x in members):
                yield finding("file.duplicate", f"the same video: {told(own)}", own[1:])


def base_names(case: CheckContext) -> Iterator[Finding]:
    """Different videos that published code would take for one, where videos are tested."""
    tested = [x for x in case.data.every() if x[0] != "train" or len(case.data.splits) == 1]
    groups = together((x, (x[0], x[1].base_name)) for x in tested)
    if groups:
        members = [x for group in groups for x in group]
        text = f"{len(members)} videos have {len(groups)} base names, as {told(groups[0])}"
        mend = "the published evaluation would merge their scores, videossp does not"
        yield finding("name.collision", text, members, severity="info", mend=mend)


LOOKS: tuple[tuple[set[str], Callable[[CheckContext], Iterator[Finding]]], ...] = (
    (set(CHECKS), lines),
    (PROBED, files),
    ({"class.empty", "class.imbalanced", "label.unknown"}, class_sizes),
    ({"split.leak-duplicate"}, shared_videos),
    ({"split.leak-group"}, shared_groups),
    ({"label.conflict", "file.duplicate"}, same_contents),
    ({"name.collision"}, base_names),
)
