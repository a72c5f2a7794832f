"""`Run`: the result of a training."""

from dataclasses import dataclass
from typing import Any

from videossp.inference.evaluate import Evaluation


@dataclass(frozen=True)
class Run:
    """The result of a training.

    Attributes:
        history: one row of figures per epoch. Those of the validation are None if there is none.
        best: the row of the epoch whose weights are kept: the best on validation, or the last if there is
            none.
        validation: the evaluation of that epoch, or None.
        failures: reason by name of each video that could not be decoded (on_error "skip").
        warnings: reasons why the figures may mislead: random weights, an epoch selected on the test split,
            skipped videos or steps, ...; also issued as `VideoSSPWarning`.
    """

    history: list[dict[str, Any]]
    best: dict[str, Any]
    validation: Evaluation | None
    failures: dict[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Duration of the epochs, without validation."""
        return float(sum(row["seconds"] for row in self.history))

    @property
    def data_wait(self) -> float:
        """Fraction of `seconds` in which the loop waited for clips."""
        return float(sum(row["data_wait"] * row["seconds"] for row in self.history)) / self.seconds

    @property
    def gpu_memory(self) -> float | None:
        """Most memory of the GPU that a training epoch took, in GB (10**9 bytes); None on other devices."""
        return max((row["gpu_memory_gb"] for row in self.history if "gpu_memory_gb" in row), default=None)
