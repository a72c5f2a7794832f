"""`TrainState`: everything that the steps of a training change, and the content of a checkpoint."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from videossp.classifier import Classifier
from videossp.data.datasets import Sample
from videossp.inference.evaluate import Evaluation
from videossp.load_adapter import load_trainable


class TrainState:
    """Everything that the steps of a training change, and that later steps depend on.

    Attributes:
        parameters: the trainable parameters, by name.
        optimizer: holds their moments.
        average: their moving average by name; empty without ema_decay.
        step: optimiser steps done, including skipped ones.
        skipped: steps skipped because a loss or gradient was not finite.
        epoch_sums: sums over the current epoch: loss, clips, seconds, seconds waited for clips.
        history: one row of figures for each validated epoch.
        best, best_evaluation, best_weights: row, evaluation and parameters of the best of them; without
            validation, row, None and parameters of the last.
        failures: reason by name of each video that could not be decoded.
        device_changes: a line for each resume on another kind of device.
        consistent: False during an update; no checkpoint may be saved then.
        calibrate: whether the classifier of the best epoch gets a temperature.
    """

    def __init__(
        self, classifier: Classifier, optimizer: torch.optim.Optimizer, ema: bool, calibrate: bool = False
    ) -> None:
        self.classifier, self.optimizer, self.calibrate = classifier, optimizer, calibrate
        self.parameters = classifier.trainable()
        self.average = copies(self.parameters) if ema else {}
        self.step = self.skipped = 0
        self.epoch_sums = zero_sums()
        self.history: list[dict[str, Any]] = []
        self.failures: dict[str, str] = {}
        self.device_changes: list[str] = []
        self.best: dict[str, Any] | None = None
        self.best_evaluation: Evaluation | None = None
        self.best_weights: dict[str, Tensor] = {}
        self.consistent = True

    @property
    def calibrated(self) -> tuple[float, Evaluation | None]:
        """The temperature of the classifier of the best epoch, and its evaluation with it."""
        found = self.best_evaluation
        if found is None or not self.calibrate:
            return 1.0, found
        temperature = found.fitted_temperature
        return temperature, found.at_temperature(temperature)

    @contextmanager
    def updating(self) -> Iterator[None]:
        """A context for an update. If the update fails, the state stays marked as inconsistent."""
        self.consistent = False
        yield
        self.consistent = True

    @contextmanager
    def using(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Temporarily replace the trainable parameters. An empty mapping changes nothing."""
        if not weights:
            yield
            return
        trained = copies(self.parameters)
        self.consistent = False  # until the trained weights are back, there is nothing valid to save
        try:
            load_trainable(self.classifier, weights)
            yield
        finally:
            load_trainable(self.classifier, trained)
            self.consistent = True

    def end_epoch(self, row: dict[str, Any], result: Evaluation | None) -> dict[str, Any]:
        """Add the figures of an epoch, and keep its weights if they are the best so far.

        Args:
            row: figures of the epoch.
            result: its evaluation on the validation videos; None: there are none, the last epoch is the best.

        Returns:
            The row of the best epoch.
        """
        best = self.best
        with self.updating():
            if best is None or result is None or figures_of(row) > figures_of(best):
                self.best = best = row
                self.best_evaluation = result
                self.best_weights = copies(self.average or self.parameters)
                self.classifier.metrics = self._metrics(row["epoch"])
            if result:
                self.failures |= result.failures
            self.history.append(row)
            self.epoch_sums = zero_sums()
        return best

    def _metrics(self, epoch: int) -> dict[str, Any]:
        _, result = self.calibrated
        metrics = {"best_epoch": epoch, "precision": self.classifier.precision}
        return {**metrics, "validation": result and result.summary()}

    def restart_epoch(self, step: int) -> None:
        """Return to the first step of an epoch in which nothing was learned."""
        with self.updating():
            self.step, self.epoch_sums = step, zero_sums()

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, metadata) of a checkpoint. Its keys are a file format: old checkpoints have them too."""
        tensors: dict[str, Tensor] = {f"tuned/{name}": x for name, x in self.parameters.items()}
        tensors |= {f"average/{name}": x for name, x in self.average.items()}
        tensors |= {f"best/{name}": x for name, x in self.best_weights.items()}
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{i}/{key}": x for key, x in moments.items()}
        metadata: dict[str, Any] = {
            "step": self.step,
            "skipped": self.skipped,
            "history": self.history,
            "failures": self.failures,
            "under_way": self.epoch_sums,
            "best_epoch": self.best and self.best["epoch"],
        }
        if self.device_changes:
            metadata["device_changes"] = self.device_changes
        if self.best_evaluation is not None:
            tensors["kept"] = self.best_evaluation.view_scores
            metadata["kept_failures"] = self.best_evaluation.failures
        return tensors, metadata

    def unpack(
        self, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], validation: Sequence[Sample]
    ) -> None:
        """Restore the state of a checkpoint.

        Args:
            tensors, metadata: from `pack`.
            validation: the validation videos, in their order.
        """

        def part(kind: str) -> dict[str, Tensor]:
            return {key[len(kind) + 1 :]: x for key, x in tensors.items() if key.startswith(f"{kind}/")}

        load_trainable(self.classifier, part("tuned"))
        self.average = {name: x.to(self.parameters[name].device) for name, x in part("average").items()}
        self.best_weights = part("best")
        moments: dict[int, dict[str, Tensor]] = {}
        for key, x in part("optimizer").items():
            i, _, name = key.partition("/")
            moments.setdefault(int(i), {})[name] = x
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.step, self.skipped = metadata["step"], metadata["skipped"]
        self.history, self.failures = metadata["history"], metadata["failures"]
        self.epoch_sums = metadata["under_way"]
        self.device_changes = metadata.get("device_changes", [])
        if metadata["best_epoch"]:
            self.best = self.history[metadata["best_epoch"] - 1]
            if validation:
                self.best_evaluation = Evaluation(
                    self.classifier.classes,
                    tuple(validation),
                    tensors["kept"],
                    metadata["kept_failures"],
                    (1, 1),
                )
            self.classifier.metrics = self._metrics(metadata["best_epoch"])


def figures_of(row: Mapping[str, Any]) -> tuple[float, float]:
    """The order of epochs: (accuracy, minus the loss) on validation, the larger the better."""
    return row["val_top1"], -row["val_loss"]


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of tensors, by name."""
    return {name: x.detach().clone() for name, x in tensors.items()}


def zero_sums() -> dict[str, float]:
    """The sums over an epoch before its first step."""
    return dict.fromkeys(("loss", "clips", "seconds", "waited"), 0.0)
