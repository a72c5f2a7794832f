"""Probes of embeddings: k nearest neighbours and ridge regression, with labels and splits of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from videossp.comparison.intervals import wilson
from videossp.data.clips import content_hash
from videossp.data.datasets import Sample, VideoDataset
from videossp.embedding.embed import absolute
from videossp.embedding.embeddings import Embeddings
from videossp.embedding.similar import nearest
from videossp.errors import DataError
from videossp.system.rows import storable
from videossp.training.config import TrainConfig
from videossp.training.splits import choose_splits

NEIGHBOURS = 5
PENALTIES = tuple(10.0**x for x in range(-3, 5))  # of the ridge, per training video
SHOWN = 3  # names of missing videos in an error


@dataclass(frozen=True)
class ProbeResult:
    """The accuracy of a probe on the test videos.

    Attributes:
        name: "knn" or "ridge".
        setting: the number of neighbours, or the penalty that was chosen on validation.
        top1: accuracy, 0 to 1.
        interval: its 95 % interval.
        predictions: (test videos,) labels.
    """

    name: str
    setting: float
    top1: float
    interval: tuple[float, float]
    predictions: Tensor


def probe(
    embeddings: Embeddings,
    data: VideoDataset,
    *,
    neighbours: int = NEIGHBOURS,
    val_fraction: float = TrainConfig.val_fraction,
) -> list[ProbeResult]:
    """Train on the training split, choose the penalty on validation, measure on test.

    Without a val split, `hold_out` takes a part of the training videos, as a training does. Both probes then
    use all training videos. Nothing is chosen on test.

    Args:
        embeddings: of all videos of the data set.
        data: labels and splits; videos are found by their path, else by their content.
        neighbours: k.
        val_fraction: fraction held out if there is no val split.

    Returns:
        Those of the k nearest neighbours and of the ridge regression.

    Raises:
        DataError: a split or a vector is missing, or samples are parts of files.
        ValueError: more neighbours than training videos.
    """
    config = TrainConfig(val_fraction=val_fraction)
    chosen = choose_splits(data, data.classes, config)
    training, test = data.splits["train"], data.splits.get("test")
    if not test:
        raise DataError("the data has no test split, on which a probe is measured")
    if not chosen.validation:
        raise DataError("no validation videos, on which the penalty is chosen: give a --val-fraction above 0")
    if not 1 <= neighbours <= len(training):
        raise ValueError(f"neighbours must be 1 to {len(training)}, the training videos, got {neighbours}")
    found = vectors_of(embeddings, [*training, *chosen.validation, *test])
    parts = [len(training), len(chosen.validation), len(test)]
    x_train, x_val, x_test = found.double().split(parts)
    y_train, y_val, y_test = (
        torch.tensor([x.label for x in part]) for part in (training, chosen.validation, test)
    )
    count = len(data.classes)
    kept = {(x.path, x.part) for x in chosen.training}
    inner = torch.tensor([(x.path, x.part) in kept for x in training])  # without the held-out videos
    scores = ridge_scores(x_train[inner], y_train[inner], x_val, count, PENALTIES)
    on_val = [(accuracy(s, y_val), -_squared_error(s, y_val)) for s in scores]
    penalty = PENALTIES[max(range(len(PENALTIES)), key=on_val.__getitem__)]
    (ridge,) = ridge_scores(x_train, y_train, x_test, count, (penalty,))
    votes = knn_scores(x_train, y_train, x_test, count, neighbours)
    return [_result("knn", neighbours, votes, y_test), _result("ridge", penalty, ridge, y_test)]


def _result(name: str, setting: float, scores: Tensor, labels: Tensor) -> ProbeResult:
    top1 = accuracy(scores, labels)
    return ProbeResult(name, setting, top1, wilson(top1, len(labels)), scores.argmax(1))


def vectors_of(embeddings: Embeddings, samples: Sequence[Sample]) -> Tensor:
    """The vectors of samples, (samples, width).

    Raises:
        DataError: a sample has none, or is a part of a file.
    """
    refuse_parts(samples)
    row = {path: i for i, path in enumerate(embeddings.paths)}
    content = {sha256: i for i, sha256 in enumerate(embeddings.sha256) if sha256}
    places, missing = [], []
    for x in samples:
        place = row.get(storable(absolute(x.path)))
        place = content.get(content_hash(Path(x.path))) if place is None else place
        if place is None:
            missing.append(x.name)
        else:
            places.append(place)
    if missing:
        names = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        count = len(dict.fromkeys(missing))
        raise DataError(
            f"{count} of {len(dict.fromkeys(x.name for x in samples))} videos have no vector ({names}): add "
            "them with videossp embed, or leave out those that cannot be decoded (doctor --write-clean-list)"
        )
    return embeddings.vectors[torch.tensor(places)]


def refuse_parts(samples: Sequence[Sample]) -> None:
    """Raise a DataError if a sample is a part of a file: embeddings are of whole files."""
    if part := next((x for x in samples if x.is_part), None):
        raise DataError(f"{part.name}: a part of a file; embeddings are of whole files")


def knn_scores(x: Tensor, y: Tensor, queries: Tensor, classes: int, k: int) -> Tensor:
    """Votes of the k most similar training videos, (queries, classes).

    Each votes with weight 1 plus a share of its cosine similarity that is too small to outvote another: of
    classes with the same number of votes, the one whose voters are more similar wins.

    Args:
        x, y: vectors (videos, width) and labels (videos,) of the training.
        queries: (queries, width).
        classes: number of classes.
        k: number of neighbours.
    """
    similarity, places = nearest(F.normalize(queries.float(), dim=1), F.normalize(x.float(), dim=1), k)
    votes = torch.zeros(len(queries), classes)
    return votes.scatter_add(1, y[places], 1 + similarity / (2 * k))


def ridge_scores(
    x: Tensor, y: Tensor, queries: Tensor, classes: int, penalties: Sequence[float]
) -> list[Tensor]:
    """Scores (queries, classes) of ridge regressions on one-hot labels, for each penalty.

    Features are standardised with mean and deviation of the training videos. With these features Z and
    centred labels Y of n videos, the weights W minimise |Z W - Y|^2 + penalty * n * |W|^2. One eigenvalue
    decomposition, of the smaller of the two Gram matrices, serves all penalties.

    Args:
        x, y: vectors (videos, width) float64 and labels (videos,) of the training.
        queries: (queries, width) float64.
        classes: number of classes.
        penalties: each above 0.
    """
    mean, deviation = x.mean(0), x.std(0, correction=0)
    scale = torch.where(deviation > 0, deviation, 1.0)
    z, q = (x - mean) / scale, (queries - mean) / scale
    target = F.one_hot(y, classes).to(x.dtype)
    level = target.mean(0)
    small = z.shape[1] <= z.shape[0]
    values, vectors = torch.linalg.eigh(z.T @ z if small else z @ z.T)
    right = vectors.T @ (z.T @ (target - level) if small else target - level)
    left = q @ vectors if small else q @ z.T @ vectors
    return [
        left @ (right / (values.clamp_min(0) + penalty * len(z))[:, None]) + level for penalty in penalties
    ]


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Share of the rows whose highest score is that of the label."""
    return (scores.argmax(1) == labels).double().mean().item()


def _squared_error(scores: Tensor, labels: Tensor) -> float:
    return (scores - F.one_hot(labels, scores.shape[1])).square().mean().item()
