"""Average precision and F1 of segments against the true ones of a recording."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videossp.data.datasets.parts import seconds_of
from videossp.errors import DataError
from videossp.watching.segment import Segment

OVERLAPS = (0.3, 0.5, 0.7)


def read_truth(path: Path, classes: Sequence[str]) -> list[Segment]:
    """The true segments of a CSV file with the columns start, end and label; others are ignored.

    Times are seconds, or [hours:]minutes:seconds.

    Raises:
        DataError: the file cannot be read, a column is missing, a time is none, or a label is no class.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [*csv.DictReader(file, strict=True)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not rows:
        raise DataError(f"{path}: no rows below the header start,end,label")
    truth = []
    for number, row in enumerate(rows, 2):
        where = f"{path}: row {number}"
        texts = {name: (row.get(name) or "").strip() for name in ("start", "end", "label")}
        if missing := [name for name, text in texts.items() if not text]:
            raise DataError(f"{where}: no {missing[0]}; the columns are start, end, label")
        start, end = (seconds_of(where, name, texts[name]) or 0.0 for name in ("start", "end"))
        if end <= start:
            raise DataError(f"{where}: end {end:g} is not after start {start:g}")
        if texts["label"] not in classes:
            raise DataError(f"{where}: {texts['label']!r} is no class of the adapter: {', '.join(classes)}")
        truth.append(Segment(start, end, texts["label"], 1.0))
    return truth


@dataclass(frozen=True)
class Agreement:
    """How well segments agree with the true ones.

    Attributes:
        precision: mean average precision by the temporal intersection over union that a match needs.
        by_class: the same for each class that the truth has.
        f1: F1 at an intersection over union of 0.5.
        found, true: segments.
    """

    precision: dict[float, float]
    by_class: dict[str, dict[float, float]]
    f1: float
    found: int
    true: int

    def summary(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "map": {f"{x:g}": value for x, value in self.precision.items()},
            "f1": {"0.5": self.f1},
            "by_class": {
                name: {f"{x:g}": value for x, value in row.items()} for name, row in self.by_class.items()
            },
            "segments": self.found,
            "true_segments": self.true,
        }

    def lines(self) -> list[str]:
        """For people."""
        values = ", ".join(f"{100 * x:.1f} % at {name:g}" for name, x in self.precision.items())
        return [
            f"average precision {values} (mean of {len(self.by_class)} classes, by temporal IoU)",
            f"F1 {100 * self.f1:.1f} % at 0.5, {self.found} segments of {self.true}",
        ]


def agreement(found: Sequence[Segment], truth: Sequence[Segment]) -> Agreement:
    """Compare segments with the true ones.

    Average precision is that of ActivityNet: by class, segments are taken in the order of their
    probabilities; each matches the true segment with which it overlaps most among those that are not matched
    yet and overlap enough. It is the area below the interpolated curve of precision over recall. The mean is
    over the classes that the truth has. F1 (Lea et al. 2017) takes segments in the order of time; one is
    right if the true segment of its class with which it overlaps most overlaps enough and was not matched
    before.

    Raises:
        ValueError: there are no true segments.
    """
    if not truth:
        raise ValueError("no true segments")
    by_class = {
        name: {x: average_precision([y for y in found if y.label == name], members, x) for x in OVERLAPS}
        for name in sorted({x.label for x in truth})
        for members in [[y for y in truth if y.label == name]]
    }
    mean = {x: sum(row[x] for row in by_class.values()) / len(by_class) for x in OVERLAPS}
    return Agreement(mean, by_class, f1_score(found, truth, 0.5), len(found), len(truth))


def overlap(a: Segment, b: Segment) -> float:
    """Intersection over union of two segments in time."""
    inside = max(0.0, min(a.end, b.end) - max(a.start, b.start))
    return inside / (a.end - a.start + b.end - b.start - inside)


def average_precision(found: Sequence[Segment], truth: Sequence[Segment], least: float) -> float:
    """Average precision of the segments of one class, see `agreement`."""
    unmatched, hits = [*truth], []
    for segment in sorted(found, key=lambda x: -x.probability):
        best = max(unmatched, key=lambda x: overlap(segment, x), default=None)
        hit = best is not None and overlap(segment, best) >= least
        if hit and best is not None:
            unmatched.remove(best)
        hits.append(hit)
    area = envelope = 0.0
    right = sum(hits)
    for number in range(len(hits), 0, -1):  # the largest precision at this recall or a higher one
        envelope = max(envelope, right / number)
        if hits[number - 1]:
            area += envelope / len(truth)
            right -= 1
    return area


def f1_score(found: Sequence[Segment], truth: Sequence[Segment], least: float) -> float:
    """F1 of segments, see `agreement`."""
    matched: set[int] = set()
    for segment in sorted(found, key=lambda x: x.start):
        same = [i for i, x in enumerate(truth) if x.label == segment.label]
        best = max(same, key=lambda i: overlap(segment, truth[i]), default=None)
        if best is not None and overlap(segment, truth[best]) >= least:
            matched.add(best)
    return 2 * len(matched) / (len(found) + len(truth))
