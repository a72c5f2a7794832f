"""`SampleBuilder`: what a reader has met so far; finds videos missing, listed twice, or of no known class."""

import difflib
from collections import defaultdict
from collections.abc import Sequence

from videossp.data.datasets.sample import Complain, Sample, VideoDataset
from videossp.data.datasets.video_index import Found


class SampleBuilder:
    """Samples of an annotation, one by one, in its order.

    Args:
        classes: class names in the order of their labels; None: those that occur, sorted.
        known: what the class names come from, for messages.
        complain: called with what is wrong; where it returns, the line is left out.
    """

    def __init__(self, classes: Sequence[str] | None, known: str, complain: Complain) -> None:
        self.classes, self.known, self.complain = classes, known, complain
        self._labels = None if classes is None else set(classes)
        self._splits: dict[str, list[tuple[str, Sample]]] = defaultdict(list)  # with class names
        self._unlabelled: dict[str, list[str]] = defaultdict(list)
        self._places: dict[tuple[str, str], str] = {}
        self._hints: dict[str, str] = {}

    def add(
        self,
        place: str,
        split: str,
        found: Sequence[Found],
        name: str,
        label: str | None,
        *,
        start: float | None = None,
        end: float | None = None,
        group: str | None = None,
    ) -> None:
        """One line of the annotation.

        Args:
            place: "FILE:LINE", for messages.
            found: the videos that it may mean.
            name: what to call the video if there is none.
            label: its class's name, None if it has none.
        """
        path, name = found[0] if found else ("", name)
        if start is not None or end is not None:
            name += f"#t={start or 0:.15g}" + ("" if end is None else f",{end:.15g}")
        before = self._places.setdefault((split, name), place)
        if label is not None and self._labels is not None and label not in self._labels:
            hint = self._hint(label)
            self.complain("label.unknown", f"{place}: class {label!r} is not in {self.known}{hint}", name)
        elif not found:
            self.complain("file.missing", f"{place}: no such video: {name}", name)
        elif len(found) > 1:
            both = f"{found[0].path}, {found[1].path}"
            self.complain("name.collision", f"{place}: {name} may be one of several videos: {both}", name)
        elif before != place:
            self.complain("name.collision", f"{place}: {name} is listed before, in {before}", name)
        elif label is None:
            self._unlabelled[split].append(name)
        else:
            self._splits[split].append((label, Sample(path, name, -1, start, end, group)))

    def samples(self, *, ignored: Sequence[str] = (), missing: Sequence[str] = ()) -> VideoDataset:
        """The data set."""
        classes = self.classes
        if classes is None:
            occur = {label for members in self._splits.values() for label, _ in members}
            numbers = all(x.isdecimal() for x in occur)
            classes = sorted(occur, key=(lambda x: (int(x), x)) if numbers else None)
        index = {name: i for i, name in enumerate(classes)}
        splits = {
            split: [Sample(x.path, x.name, index[label], x.start, x.end, x.group) for label, x in members]
            for split, members in self._splits.items()
        }
        return VideoDataset(tuple(classes), splits, tuple(ignored), tuple(missing), dict(self._unlabelled))

    def _hint(self, label: str) -> str:
        if label not in self._hints:
            near = difflib.get_close_matches(label, self.classes or (), 1)
            self._hints[label] = f"; did you mean {near[0]!r}?" if near else ""
        return self._hints[label]
