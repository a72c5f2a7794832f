"""`PredictJob`: predictions for a list of videos, as a job that another process can start."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from videossp.bulk.run_shards import Compute
from videossp.system.rows import Row

# A process that gets this job imports torch only when it starts it, after `prepare_process`.

if TYPE_CHECKING:
    from videossp.classifier import Classifier
    from videossp.model.precision import Precision


@dataclass(frozen=True)
class PredictJob:
    """How to predict; picklable.

    Attributes:
        adapters: their folders.
        names: of the adapters in rows; None: rows do not name them.
        backbone: weights of the backbone, if they have moved.
        precision: of matrix products.
        views: (segments, crops) per video.
        top: classes per row.
        table: whether rows have the columns of `columns_of`.
        batch_size, timeout: see `predict_each`.
    """

    adapters: tuple[str, ...]
    names: tuple[str | None, ...]
    backbone: str | None
    precision: "tuple[Precision, ...]"
    views: tuple[int, int]
    top: int
    table: bool
    batch_size: int | None
    timeout: float | None

    def start(self, device: str, workers: int) -> Compute:
        """Load the adapters on a device; `workers` processes will decode."""
        from videossp.load_adapter import load

        classifiers = [
            load(folder, backbone=self.backbone, device=device).to_precision(precision)
            for folder, precision in zip(self.adapters, self.precision, strict=True)
        ]
        return self.compute(classifiers, workers)

    def compute(self, classifiers: "Sequence[Classifier]", workers: int) -> Compute:
        """The same with loaded adapters."""
        return lambda names: self._rows(classifiers, names, workers)

    def _rows(
        self, classifiers: "Sequence[Classifier]", names: Iterable[str], workers: int
    ) -> Generator[list[Row], None, None]:
        """The rows of each video, one per adapter."""
        from videossp.inference.predict import predict_each
        from videossp.inference.prediction_rows import flat, row_of

        results = predict_each(
            classifiers,
            names,
            segments=self.views[0],
            crops=self.views[1],
            on_error="skip",
            batch_size=self.batch_size,
            workers=workers,
            timeout=self.timeout,
        )
        with closing(results):
            for predictions in results:
                rows = [row_of(x, self.top, name) for x, name in zip(predictions, self.names, strict=True)]
                yield [flat(row) for row in rows] if self.table else [*rows]
