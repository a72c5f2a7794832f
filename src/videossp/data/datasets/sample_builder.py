"""`SampleBuilder`: collect the lines of an annotation; find missing and repeated videos, unknown classes."""

import difflib
from collections import defaultdict
from collections.abc import Sequence

from videossp.data.datasets.sample import ReportProblem, Sample, VideoDataset
from videossp.data.datasets.video_index import VideoPath

# Class name, path, name, and (start, end, group, frames).
Part = tuple[float | None, float | None, str | None, tuple[int, int] | None]
Member = tuple[str, str, str, Part]


class SampleBuilder:
    """Builds a `VideoDataset` from the lines of an annotation, in their order.

    Args:
        classes: class names in the order of their labels; None: the names that occur, sorted.
        source: the file that lists the class names, for messages.
        report_problem: called with each problem; if it returns, the line is left out.
    """

    def __init__(self, classes: Sequence[str] | None, source: str, report_problem: ReportProblem) -> None:
        self.classes, self.source, self.report_problem = classes, source, report_problem
        self._known = None if classes is None else set(classes)
        self._splits: dict[str, list[Member]] = defaultdict(list)
        self._unlabelled: dict[str, list[str]] = defaultdict(list)
        self._first: dict[tuple[str, str], tuple[str, str | None]] = {}  # line and class by (split, name)
        self.listed: set[str] = set()  # names of all videos that a line may name
        self._hints: dict[str, str] = {}

    def add(
        self,
        location: str,
        split: str,
        candidates: Sequence[VideoPath],
        name: str,
        label: str | None,
        *,
        start: float | None = None,
        end: float | None = None,
        frames: tuple[int, int] | None = None,
        group: str | None = None,
    ) -> None:
        """Add one line of the annotation.

        Args:
            location: "FILE:LINE", for messages.
            candidates: the videos that the line may name; exactly one is right.
            name: name of the video if there is no candidate.
            label: its class name; None: unlabelled.
            start, end, frames, group: see `Sample`.
        """
        self.listed.update(x.name for x in candidates)
        path, name = candidates[0] if candidates else ("", name)
        if start is not None or end is not None:
            name += f"#t={start or 0:.15g}" + ("" if end is None else f",{end:.15g}")
        if frames is not None:
            name += f"#frames={frames[0]},{frames[1]}"
        first, known = self._first.setdefault((split, name), (location, label))
        if label is not None and self._known is not None and label not in self._known:
            hint = self._hint(label)
            self.report_problem(
                "label.unknown", f"{location}: class {label!r} is not in {self.source}{hint}", name
            )
        elif not candidates:
            self.report_problem("file.missing", f"{location}: no such video: {name}", name)
        elif len(candidates) > 1:
            both = f"{candidates[0].path}, {candidates[1].path}"
            self.report_problem(
                "name.collision", f"{location}: {name} may be one of several videos: {both}", name
            )
        elif first != location:
            reason = f"{location}: {name} is listed before, in {first}"
            if label != known:
                reason += f", with the class {known!r}: several labels of a video are not supported"
            self.report_problem("name.collision", reason, name)
        elif label is None:
            self._unlabelled[split].append(name)
        else:
            self._splits[split].append((label, path, name, (start, end, group, frames)))

    def build(self, *, ignored: Sequence[str] = (), missing: Sequence[str] = ()) -> VideoDataset:
        """The data set of all lines that were added."""
        classes = self.classes
        if classes is None:
            names = {member[0] for members in self._splits.values() for member in members}
            numbers = all(x.isdecimal() for x in names)
            classes = sorted(names, key=(lambda x: (int(x), x)) if numbers else None)
        index = {name: i for i, name in enumerate(classes)}
        splits = {
            split: [Sample(path, name, index[label], *part) for label, path, name, part in members]
            for split, members in self._splits.items()
        }
        return VideoDataset(tuple(classes), splits, tuple(ignored), tuple(missing), dict(self._unlabelled))

    def _hint(self, label: str) -> str:
        """The most similar class name, as a question."""
        if label not in self._hints:
            similar = difflib.get_close_matches(label, self.classes or (), 1)
            self._hints[label] = f"; did you mean {similar[0]!r}?" if similar else ""
        return self._hints[label]
