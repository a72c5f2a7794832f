"""Accuracy on labelled videos: several views per video, and every video counts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.distributed as distributed
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from videossp.classifier import Classifier
from videossp.data.clips import EvalViews
from videossp.data.datasets import Sample
from videossp.errors import DataError
from videossp.inference.calibration import Reliability, fit_temperature, with_temperature
from videossp.inference.passes import EVAL_BATCH, finite, scoring
from videossp.inference.video_results import OnError as OnError
from videossp.inference.video_results import check_on_error
from videossp.model.device import default_workers, selected
from videossp.system.cpu_group import cpu_group
from videossp.system.lost_processes import explain_lost_processes
from videossp.system.printable import printable
from videossp.system.process import give_back_memory
from videossp.system.progress import ErrorConsole


@dataclass(frozen=True)
class Evaluation:
    """The scores of videos and the figures that follow from them.

    A video that cannot be decoded counts as wrong in every accuracy.

    Attributes:
        classes: class names.
        samples: the videos, in order.
        view_scores: (videos, segments * crops, classes) probabilities; zero where a video failed.
        failures: reason by name of each video that cannot be decoded.
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
        """(classes, classes): number of videos by true class (row) and predicted class; without failures."""
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
        """(videos,) bool: whether the most probable class is the true one; false where a video failed."""
        out: Tensor = self._decoded & (self.scores.argmax(1) == self._labels)
        return out

    @property
    def predicted(self) -> list[int | None]:
        """For each video the number of the most probable class; None where a video failed."""
        best = self.scores.argmax(1).tolist()
        return [x if decoded else None for x, decoded in zip(best, self._decoded.tolist(), strict=True)]

    @cached_property
    def counts(self) -> Tensor:
        """(classes,): number of videos of each class."""
        return self._labels.bincount(minlength=len(self.classes))

    @cached_property
    def class_accuracy(self) -> Tensor:
        """(classes,): top-1 accuracy of each class; nan for a class without videos."""
        return self.confusion.diag() / self.counts

    @property
    def mean_class_accuracy(self) -> float:
        """Mean of the top-1 accuracies of the classes that have videos."""
        return self.class_accuracy[self.counts > 0].mean().item()

    @property
    def macro_f1(self) -> float:
        """Mean over the classes that have videos of F1, the harmonic mean of precision and recall."""
        right = self.confusion.diag()
        f1 = 2 * right / (self.confusion.sum(0) + self.counts)  # 2 TP / (2 TP + FP + FN)
        return f1[self.counts > 0].mean().item()

    @property
    def _log_likelihoods(self) -> Tensor:
        """(videos,): of the true class, in nats."""
        scores = self.scores[torch.arange(len(self.samples)), self._labels]
        return scores.clamp_min(1e-12).log()

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood of the decoded videos, in nats."""
        decoded = self._log_likelihoods[self._decoded]
        return -decoded.mean().item() if len(decoded) else float("inf")

    @property
    def losses(self) -> list[float | None]:
        """For each video its negative log-likelihood in nats; None where a video failed."""
        losses = (-self._log_likelihoods).tolist()
        return [x if decoded else None for x, decoded in zip(losses, self._decoded.tolist(), strict=True)]

    @cached_property
    def reliability(self) -> Reliability:
        """How often the decoded videos are right, by the probability of the predicted class."""
        return Reliability.of(self.scores[self._decoded], self._labels[self._decoded])

    @cached_property
    def fitted_temperature(self) -> float:
        """The temperature that calibrates these probabilities, see `fit_temperature`."""
        return fit_temperature(self.view_scores[self._decoded], self._labels[self._decoded])

    def at_temperature(self, temperature: float) -> "Evaluation":
        """The evaluation of the classifier whose logits are divided by a temperature."""
        if temperature == 1:
            return self
        scores = self.view_scores.clone()
        scores[self._decoded] = with_temperature(scores[self._decoded], temperature)
        return replace(self, view_scores=scores)

    def per_base_name(self, processes: int = 1) -> dict[str, Any]:
        """Accuracy as the published code computes it: videos with the same base name count as one.

        The published code identifies a video by `Sample.base_name` and keeps the first score of each view.
        In Breakfast, the videos of several cameras share a base name, so only one camera is scored for each
        view. With one process, that is the first camera in the list. With several processes, it is the
        first in the order of the processes, which may differ between views.

        Args:
            processes: number of processes of the published evaluation. View v of video i has the number
                n = v * videos + i and is computed by the process with rank n % processes. The results are
                read in the order of the ranks.

        Returns:
            {"top1": accuracy, "base_names": number of base names}.
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
        """The confusion matrix as lines of text; no lines for more than 20 classes."""
        if len(self.classes) > 20:
            return []
        matrix: list[list[int]] = self.confusion.tolist()
        names = [printable(name) for name in self.classes]
        width = max(map(len, names))
        cells = max(3, len(str(max(max(row) for row in matrix))) + 1)
        header = " " * width + "".join(f"{i:>{cells}}" for i in range(len(self.classes)))
        rows = [
            f"{name:>{width}}" + "".join(f"{count or '.':>{cells}}" for count in row) + f"   {i}"
            for i, (name, row) in enumerate(zip(names, matrix, strict=True))
        ]
        return ["", "confusion matrix (rows: true class, columns: predicted)", header, *rows]

    def summary(self) -> dict[str, Any]:
        """The figures that are printed and saved. `top5` is None for five classes or fewer."""
        return {
            "top1": self.top(1),
            "top5": self.top(5) if len(self.classes) > 5 else None,
            "mean_class_accuracy": self.mean_class_accuracy,
            "macro_f1": self.macro_f1,
            "loss": self.loss if self._decoded.any() else None,
            "calibration_error": self.reliability.error,
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
    batch_size: int | None = None,
    workers: int | None = None,
    timeout: float = 300.0,
    on_error: OnError = "error",
    progress: bool = False,
    through: Callable[[EvalViews], Dataset[Any]] | None = None,
) -> Evaluation:
    """Score every sample.

    If several processes run (torch.distributed), they share the samples and all return the evaluation of all
    samples.

    Args:
        classifier: computes on its device and in its precision, which for a loaded adapter is that of its
            training.
        samples: labelled videos; their labels are indices of the classifier's classes.
        segments, crops: views per video, whose probabilities are averaged; default: `ClipFormat.views` of the
            classifier.
        batch_size: views per forward pass, of several videos if one has fewer. Default: 4; on a GPU as many
            as fit into its memory. A GPU that has too little memory for them takes half as many.
        workers: processes that decode ahead; 0 decodes in this one. Default: 0; on a GPU, which computes
            meanwhile, all cores but one.
        timeout: seconds that a worker process may take for a video; 0: no limit. Has no
            effect with workers=0.
        on_error: "error" stops at the first video that cannot be decoded; "skip" lists it and
            counts it as wrong.
        progress: show a bar on stderr if that is a terminal.
        through: replaces the data set of views by another one, e.g. `FeatureCache.of`.

    Raises:
        ValueError: `samples` is not a sequence of samples, such as a path or a data set.
        DataError: no samples, or (on_error "error") one that cannot be decoded.
        FloatingPointError: probabilities are not finite.
        OutOfMemoryError: the memory of a GPU is too small for one view.
        WorkerLostError: a worker process or another process of the evaluation is gone.
    """
    check_on_error(on_error)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if isinstance(samples, str) or not isinstance(samples, Sequence):
        kind = type(samples).__name__
        raise ValueError(
            f"samples must be videos with labels, as read_data(DATA).splits['test']; got a {kind}"
        )
    if not samples:
        raise DataError("no videos to evaluate")
    default = classifier.clip_format.views
    views = default[0] if segments is None else segments, default[1] if crops is None else crops
    distributed_run = distributed.is_available() and distributed.is_initialized()
    rank, processes = (distributed.get_rank(), distributed.get_world_size()) if distributed_run else (0, 1)
    group = cpu_group() if distributed_run else None
    device = classifier.device
    # A batch has the same videos however many processes share the work, so that the scores are the same. How
    # many fit into the memory of a GPU differs between processes: each makes batches of the videos it has.
    per_video, at_most = views[0] * views[1], batch_size or EVAL_BATCH
    alone = classifier.tuner.mixes_clips or not 0 < per_video < at_most
    together = 1 if alone else at_most // per_video
    fitted = device.type == "cuda" and batch_size is None and not classifier.tuner.mixes_clips
    indices = [i for i in range(len(samples)) if i // together % processes == rank]
    mine = [samples[i] for i in indices]
    workers = min(default_workers(device), len(mine)) if workers is None else workers
    clips = EvalViews(mine, classifier.clip_format, *views, raw=device.type != "cpu")
    scored: dict[int, Tensor | str] = {}  # by index in `samples`: none is lost or counted twice
    with explain_lost_processes(), selected(device):
        data = through(clips) if through else clips
        loader: Iterable[tuple[Tensor | None, str]] = DataLoader(
            data,
            batch_size=None,
            num_workers=workers,
            timeout=timeout if workers else 0,
            pin_memory=device.type == "cuda",
        )
        console = ErrorConsole()
        if progress and console.is_terminal and rank == 0:
            loader = track(loader, "evaluating", total=len(indices), console=console, transient=True)
        if workers:
            give_back_memory()

        def decoded() -> Iterator[tuple[int, Tensor | None]]:
            for i, (clip, reason) in zip(indices, loader, strict=True):
                if clip is None:
                    scored[i] = reason
                yield i, clip

        passes = scoring(classifier, batch_size)
        for i, probabilities in passes.by_item(decoded(), None if fitted else together):
            if probabilities is not None:
                scored[i] = finite(probabilities)
            elif on_error == "error":
                break
        if distributed_run:
            parts: list[dict[int, Tensor | str]] = [{}] * processes
            distributed.all_gather_object(parts, scored, group=group)
            scored = {i: result for part in parts for i, result in part.items()}
    failures = {samples[i].name: x for i, x in sorted(scored.items()) if isinstance(x, str)}
    if failures and on_error == "error":
        raise DataError(next(iter(failures.values())))
    scores = torch.zeros(len(samples), per_video, len(classifier.classes))
    for i, result in scored.items():
        if isinstance(result, Tensor):
            scores[i] = result
    return Evaluation(classifier.classes, tuple(samples), scores, failures, views)


def relabel(samples: Sequence[Sample], classes: Sequence[str], wanted: Sequence[str]) -> list[Sample]:
    """Change labels from indices of `classes` to indices of `wanted`, matched by class name.

    Raises:
        DataError: a class of the samples is not in `wanted`, the classes of a classifier.
    """
    unknown = sorted({classes[x.label] for x in samples} - set(wanted))
    if unknown:
        raise DataError(
            f"classes the classifier does not know: {', '.join(unknown)}; it knows {', '.join(wanted)}"
        )
    index = {name: i for i, name in enumerate(wanted)}
    return [replace(x, label=index[classes[x.label]]) for x in samples]
