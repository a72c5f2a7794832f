"""Accuracy over labelled videos: several views per video, nothing replaced, nothing left out of the count."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.distributed as distributed
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from videossp.classifier import TOGETHER, Classifier
from videossp.data.clips import EvalViews
from videossp.data.datasets import Sample
from videossp.errors import DataError
from videossp.inference.predict import OnError as OnError
from videossp.inference.predict import check_on_error
from videossp.system.process import give_back_memory


@dataclass(frozen=True)
class Evaluation:
    """Scores of every video and what follows from them.

    A video that cannot be decoded counts as wrong in every accuracy.

    Attributes:
        classes: class names.
        samples: the videos, in order.
        view_scores: (videos, segments * crops, classes) probabilities; zero where a video failed.
        failures: reason by name of each video that could not be decoded.
        views: (segments, crops) per video.
    """

    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    view_scores: Tensor
    failures: dict[str, str]
    views: tuple[int, int]

    @cached_property
    def scores(self) -> Tensor:
        """(videos, classes) probabilities, the mean over the views; zero where a video failed."""
        return self.view_scores.mean(1)

    @cached_property
    def _decoded(self) -> Tensor:
        return torch.tensor([x.name not in self.failures for x in self.samples])

    @cached_property
    def _labels(self) -> Tensor:
        return torch.tensor([x.label for x in self.samples])

    @cached_property
    def confusion(self) -> Tensor:
        """(classes, classes): videos of the row's class that were called the column's; without failures."""
        scores, labels = self.scores[self._decoded], self._labels[self._decoded]
        count = len(self.classes)
        return (labels * count + scores.argmax(1)).bincount(minlength=count**2).reshape(count, count)

    def top(self, k: int) -> float:
        """Fraction of the videos whose class is among the k most probable."""
        if not self._decoded.any():
            return 0.0
        scores, labels = self.scores[self._decoded], self._labels[self._decoded]
        best = scores.argmax(1, keepdim=True) if k == 1 else scores.topk(k).indices
        hits = (best == labels[:, None]).any(1)
        # Divided in float32, as earlier versions did: a resumed run compares this figure with its old ones.
        return (hits.sum() / len(labels)).item() * len(labels) / len(self.samples)

    @property
    def hits(self) -> Tensor:
        """(videos,) bool: whether the most probable class is the video's; false where it failed."""
        out: Tensor = self._decoded & (self.scores.argmax(1) == self._labels)
        return out

    @cached_property
    def counts(self) -> Tensor:
        """(classes,): videos of each class."""
        return self._labels.bincount(minlength=len(self.classes))

    @cached_property
    def class_accuracy(self) -> Tensor:
        """(classes,): top-1 accuracy of each class; nan where none occurs."""
        return self.confusion.diag() / self.counts

    @property
    def mean_class_accuracy(self) -> float:
        """Mean over the classes that occur of their top-1 accuracy."""
        return self.class_accuracy[self.counts > 0].mean().item()

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood of the decoded videos, in nats."""
        own = self.scores[torch.arange(len(self.samples)), self._labels][self._decoded]
        return -own.clamp_min(1e-12).log().mean().item() if len(own) else float("inf")

    def per_base_name(self, processes: int = 1) -> dict[str, Any]:
        """The published score: videos of one base name count as one, for each view the one met first.

        The published code tells videos apart by `Sample.base_name`. So of Breakfast's cameras, which share
        it, one is scored for each view: the first in the list if one process evaluates, else whichever the
        division among processes puts first, which mixes cameras.

        Args:
            processes: of the published evaluation. View v of video i is number v * videos + i of its list,
                and goes to process number % processes; what they wrote is read one after the other.

        Returns:
            top1, and the number of base names.
        """
        count, views = len(self.samples), self.view_scores.shape[1]
        order = [k for rank in range(processes) for k in range(rank, count * views, processes)]
        first: dict[str, dict[int, int]] = {}  # base name -> view -> video
        for k in order:
            view, video = divmod(k, count)
            first.setdefault(self.samples[video].base_name, {}).setdefault(view, video)
        hits = 0
        for members in first.values():
            score = torch.stack([self.view_scores[video, view] for view, video in members.items()]).mean(0)
            label = self.samples[next(iter(members.values()))].label
            hits += int(score.any() and score.argmax() == label)
        return {"top1": hits / len(first), "base_names": len(first)}

    def confusion_table(self) -> list[str]:
        """The confusion matrix as lines of text, rows true; none beyond 20 classes."""
        if len(self.classes) > 20:
            return []
        matrix: list[list[int]] = self.confusion.tolist()
        width = max(map(len, self.classes))
        cells = max(3, len(str(max(max(row) for row in matrix))) + 1)
        header = " " * width + "".join(f"{i:>{cells}}" for i in range(len(self.classes)))
        rows = [
            f"{name:>{width}}" + "".join(f"{count or '.':>{cells}}" for count in row) + f"   {i}"
            for i, (name, row) in enumerate(zip(self.classes, matrix, strict=True))
        ]
        return ["", "confusion matrix (rows: true class, columns: predicted)", header, *rows]

    def summary(self) -> dict[str, Any]:
        """The figures, as they are printed and saved. `top5` is None for five classes or fewer."""
        return {
            "top1": self.top(1),
            "top5": self.top(5) if len(self.classes) > 5 else None,
            "mean_class_accuracy": self.mean_class_accuracy,
            "loss": self.loss if self._decoded.any() else None,
            "videos": len(self.samples),
            "failed": len(self.failures),
            "views": f"{self.views[0]} x {self.views[1]}",
        }


def evaluate(
    classifier: Classifier,
    samples: Sequence[Sample],
    *,
    segments: int | None = None,
    crops: int | None = None,
    workers: int = 0,
    timeout: float = 300.0,
    on_error: OnError = "error",
    progress: bool = False,
    through: Callable[[EvalViews], Dataset[Any]] = lambda views: views,
) -> Evaluation:
    """Score every sample.

    Where several processes run (torch.distributed), each scores its share, and all return the whole.

    Args:
        segments, crops: views per video, whose probabilities are averaged; default: those that the
            classifier was made with.
        workers: processes that decode ahead; 0 decodes in this one.
        timeout: seconds that a worker process may take for a video; 0: no limit. It does not apply
            without workers.
        on_error: "error" stops at the first video that cannot be decoded; "skip" lists it and
            counts it as wrong.
        progress: show a bar on stderr if that is a terminal.
        through: what to put in place of the views, `features.FeatureCache.of`.

    Raises:
        DataError: no samples, or (on_error "error") one that cannot be decoded.
    """
    check_on_error(on_error)
    if not samples:
        raise DataError("no videos to evaluate")
    usual = classifier.clip_format.views
    views = usual[0] if segments is None else segments, usual[1] if crops is None else crops
    several = distributed.is_available() and distributed.is_initialized()
    rank, processes = (distributed.get_rank(), distributed.get_world_size()) if several else (0, 1)
    # So many videos go through the backbone together, the same ones however many processes share the work.
    count = views[0] * views[1]
    alone = classifier.tuner.mixes_clips or not 0 < count < TOGETHER
    together = 1 if alone else TOGETHER // count
    own = [i for i in range(len(samples)) if i // together % processes == rank]
    data = through(EvalViews([samples[i] for i in own], classifier.clip_format, *views))
    loader: Iterable[tuple[Tensor | None, str]] = DataLoader(
        data, batch_size=None, num_workers=workers, timeout=timeout if workers else 0
    )
    console = Console(stderr=True)
    if progress and console.is_terminal and rank == 0:
        loader = track(loader, "evaluating", total=len(own), console=console, transient=True)
    if workers:
        give_back_memory()
    scored: dict[int, Tensor | str] = {}  # by position in `samples`: none is lost or counted twice
    waiting: dict[int, Tensor] = {}
    for i, (clip, reason) in zip(own, loader, strict=True):
        if clip is not None:
            waiting[i] = clip
        else:
            scored[i] = reason
            if on_error == "error":
                break
        if waiting and (i % together == together - 1 or i == own[-1]):
            found = classifier.probabilities(torch.cat([*waiting.values()]))
            scored |= zip(waiting, found.chunk(len(waiting)), strict=True)
            waiting.clear()
    if several:
        parts: list[dict[int, Tensor | str]] = [{}] * processes
        distributed.all_gather_object(parts, scored)
        scored = {i: result for part in parts for i, result in part.items()}
    failures = {samples[i].name: x for i, x in sorted(scored.items()) if isinstance(x, str)}
    if failures and on_error == "error":
        raise DataError(next(iter(failures.values())))
    scores = torch.zeros(len(samples), views[0] * views[1], len(classifier.classes))
    for i, result in scored.items():
        if isinstance(result, Tensor):
            scores[i] = result
    return Evaluation(classifier.classes, tuple(samples), scores, failures, views)


def relabel(samples: Sequence[Sample], classes: Sequence[str], wanted: Sequence[str]) -> list[Sample]:
    """The samples with labels that index `wanted`, matched by class name.

    Raises:
        DataError: a class that the classifier does not know.
    """
    unknown = sorted({classes[x.label] for x in samples} - set(wanted))
    if unknown:
        raise DataError(
            f"classes the classifier does not know: {', '.join(unknown)}; it knows {', '.join(wanted)}"
        )
    index = {name: i for i, name in enumerate(wanted)}
    return [replace(x, label=index[classes[x.label]]) for x in samples]
