"""`Neighbourhood`: the clips of a data set that are most similar to another clip, by class."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from videossp.data.clips import EvalViews
from videossp.data.datasets import Sample
from videossp.embedding.similar import nearest
from videossp.inference.passes import Passes
from videossp.inference.predict import usual_batch
from videossp.model.device import default_workers
from videossp.system.lost_processes import explain_lost_processes
from videossp.system.progress import with_bar

if TYPE_CHECKING:
    from videossp.classifier import Classifier


class Neighbourhood:
    """Clips by their features, the normalised cls tokens that the head reads.

    Args:
        classifier: computes the features, of one view of each video.
        samples: labelled videos; those that cannot be decoded are left out.
        workers, timeout: of the processes that decode, see `evaluate`.
        progress: show a bar on stderr if that is a terminal.
    """

    def __init__(
        self,
        classifier: "Classifier",
        samples: Sequence[Sample],
        *,
        workers: int | None = None,
        timeout: float = 300.0,
        progress: bool = False,
    ) -> None:
        self.classifier, self.progress = classifier, progress
        self.workers, self.timeout = workers, timeout
        vectors = self.features(samples)
        self.samples = [x for x, vector in zip(samples, vectors, strict=True) if vector is not None]
        self.vectors = [x for x in vectors if x is not None]

    def features(self, samples: Sequence[Sample]) -> list[Tensor | None]:
        """A unit vector for each sample; None if it cannot be decoded."""
        classifier = self.classifier
        device = classifier.device
        clips = EvalViews(samples, classifier.clip_format, 1, 1, raw=device.type != "cpu")
        passes = Passes(classifier, classifier.features, usual_batch([classifier], None))
        found: list[Tensor | None] = [None] * len(samples)
        with explain_lost_processes():
            workers = default_workers(device) if self.workers is None else self.workers
            workers = min(workers, len(samples) // 8)  # fewer videos do not pay for the start of a process
            timeout = self.timeout if workers else 0
            loader = DataLoader(clips, batch_size=None, num_workers=workers, timeout=timeout)
            items = ((i, views) for i, (views, _) in enumerate(loader))
            results: Iterable[tuple[int, Tensor | None]] = passes.by_item(items)
            if self.progress and len(samples) > 1:
                results = with_bar(results, "embedding", len(samples))
            for i, vector in results:
                found[i] = None if vector is None else F.normalize(vector[0].float(), dim=0)
        return found

    def nearest(self, vector: Tensor | None, label: int, count: int) -> list[tuple[Sample, float]]:
        """The clips of a class that are most similar to a vector, with their cosine similarity."""
        own = [i for i, x in enumerate(self.samples) if x.label == label]
        if not own or vector is None:
            return []
        similarities, order = nearest(
            vector[None], torch.stack([self.vectors[i] for i in own]), min(count, len(own))
        )
        pairs = zip(order[0].tolist(), similarities[0].tolist(), strict=True)
        return [(self.samples[own[k]], similarity) for k, similarity in pairs]
