"""`EmbedJob`: feature vectors of a list of videos, as a job that another process can start."""

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from videossp.bulk.run_shards import Compute
from videossp.system.rows import Row

# A process that gets this job imports torch only when it starts it, after `prepare_process`.

if TYPE_CHECKING:
    from videossp.embedding.embed import Embedder
    from videossp.embedding.features import Kind
    from videossp.model.precision import Precision

COLUMNS: dict[str, type] = {"path": str, "error": str, "vector": list}


@dataclass(frozen=True)
class EmbedJob:
    """How to embed; picklable.

    Attributes:
        adapter: its folder; None: a frozen backbone alone.
        backbone: weights of the adapter's backbone, if they have moved; or the name of the frozen backbone.
        features: kind of the features.
        precision: of matrix products.
        views: (segments, crops) per video.
        batch_size, timeout: see `predict_each`.
    """

    adapter: str | None
    backbone: str | None
    features: "Kind"
    precision: "Precision"
    views: tuple[int, int]
    batch_size: int | None
    timeout: float | None

    def start(self, device: str, workers: int) -> Compute:
        """Load the model on a device; `workers` processes will decode."""
        from videossp.embedding.embed import Embedder, frozen_classifier
        from videossp.load_adapter import load
        from videossp.model.device import choose_device

        if self.adapter is not None:
            classifier = load(self.adapter, backbone=self.backbone, device=device)
        else:
            assert self.backbone is not None
            classifier = frozen_classifier(self.backbone).to(choose_device(device))
        classifier.to_precision(self.precision)
        return self.compute(Embedder(classifier, self.features, self.views, self.adapter is None), workers)

    def compute(self, model: "Embedder", workers: int) -> Compute:
        """The same with a loaded model."""
        return lambda names: self._rows(model, names, workers)

    def _rows(
        self, model: "Embedder", names: Iterable[str], workers: int
    ) -> Generator[list[Row], None, None]:
        """The row of each video."""
        results = model.each(
            names, on_error="skip", batch_size=self.batch_size, workers=workers, timeout=self.timeout
        )
        with closing(results):
            for video, vector, reason in results:
                yield [{"path": video, "error": reason or None, "vector": _numbers(vector)}]


def _numbers(vector: Any) -> list[float] | None:
    return None if vector is None else vector.tolist()
