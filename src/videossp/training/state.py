"""`TrainState`: where a training stands, which is all that a checkpoint holds."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from videossp.classifier import Classifier, load_trainable
from videossp.data.datasets import Sample
from videossp.inference.evaluate import Evaluation


class TrainState:
    """Everything that the steps of a training change, and that the steps to come depend on.

    Attributes:
        tuned: the tensors that train, by name.
        optimizer: holds their moments.
        average: their moving average, if there is one.
        step: optimiser steps done, those that were skipped counted as well.
        skipped: steps left out because something was not finite.
        under_way: sums over the epoch so far.
        history: one row of figures for each epoch that was validated.
        best, kept, best_weights: the row, the evaluation and the tuned tensors of the best of them.
        failures: reason by name of each video that could not be decoded.
        whole: false within an update, when a checkpoint would hold half of it.
    """

    def __init__(self, classifier: Classifier, optimizer: torch.optim.Optimizer, ema: bool) -> None:
        self.classifier, self.optimizer = classifier, optimizer
        self.tuned = classifier.trainable()
        self.average = {name: x.detach().clone() for name, x in self.tuned.items()} if ema else {}
        self.step = self.skipped = 0
        self.under_way = nothing()
        self.history: list[dict[str, Any]] = []
        self.failures: dict[str, str] = {}
        self.best: dict[str, Any] | None = None
        self.kept: Evaluation | None = None
        self.best_weights: dict[str, Tensor] = {}
        self.whole = True

    @contextmanager
    def changing(self) -> Iterator[None]:
        """An update, which stays marked as half done if it does not come to its end."""
        self.whole = False
        yield
        self.whole = True

    @contextmanager
    def standing_in(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Other tuned tensors in place of the ones that train, if any are given."""
        if not weights:
            yield
            return
        own = {name: x.detach().clone() for name, x in self.tuned.items()}
        self.whole = False  # what ends the training before its own are back must not save these
        try:
            load_trainable(self.classifier, weights)
            yield
        finally:
            load_trainable(self.classifier, own)
            self.whole = True

    def end_epoch(self, row: dict[str, Any], result: Evaluation) -> dict[str, Any]:
        """Add the figures of an epoch, keep its weights if they are the best so far; the row of the best."""
        best = self.best
        with self.changing():
            if best is None or (row["val_top1"], -row["val_loss"]) > (best["val_top1"], -best["val_loss"]):
                self.best = best = row
                self.kept = result
                self.best_weights = {n: x.detach().clone() for n, x in (self.average or self.tuned).items()}
                self.classifier.metrics = self._metrics(row["epoch"], result)
            self.failures |= result.failures
            self.history.append(row)
            self.under_way = nothing()
        return best

    def _metrics(self, epoch: int, result: Evaluation) -> dict[str, Any]:
        own = {"best_epoch": epoch, "precision": self.classifier.precision}
        return {**own, "validation": result.summary()}

    def begin_again(self, step: int) -> None:
        """Back to the start of an epoch in which nothing was learned."""
        with self.changing():
            self.step, self.under_way = step, nothing()

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, facts) for a checkpoint."""
        tensors: dict[str, Tensor] = {f"tuned/{name}": x for name, x in self.tuned.items()}
        tensors |= {f"average/{name}": x for name, x in self.average.items()}
        tensors |= {f"best/{name}": x for name, x in self.best_weights.items()}
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{i}/{key}": x for key, x in moments.items()}
        facts: dict[str, Any] = {
            "step": self.step,
            "skipped": self.skipped,
            "history": self.history,
            "failures": self.failures,
            "under_way": self.under_way,
            "best_epoch": self.best and self.best["epoch"],
        }
        if self.kept is not None:
            tensors["kept"] = self.kept.view_scores
            facts["kept_failures"] = self.kept.failures
        return tensors, facts

    def unpack(
        self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], validation: Sequence[Sample]
    ) -> None:
        """Stand where a checkpoint was packed; `validation` are the videos of its evaluations."""

        def part(kind: str) -> dict[str, Tensor]:
            return {key[len(kind) + 1 :]: x for key, x in tensors.items() if key.startswith(f"{kind}/")}

        load_trainable(self.classifier, part("tuned"))
        self.average = {name: x.to(self.tuned[name].device) for name, x in part("average").items()}
        self.best_weights = part("best")
        moments: dict[int, dict[str, Tensor]] = {}
        for key, x in part("optimizer").items():
            i, _, name = key.partition("/")
            moments.setdefault(int(i), {})[name] = x
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.step, self.skipped = facts["step"], facts["skipped"]
        self.history, self.failures, self.under_way = (facts[x] for x in ("history", "failures", "under_way"))
        if facts["best_epoch"]:
            self.best = self.history[facts["best_epoch"] - 1]
            samples = tuple(validation)
            self.kept = Evaluation(
                self.classifier.classes, samples, tensors["kept"], facts["kept_failures"], (1, 1)
            )
            self.classifier.metrics = self._metrics(facts["best_epoch"], self.kept)


def nothing() -> dict[str, float]:
    """The sums over an epoch before its first step."""
    return dict.fromkeys(("loss", "clips", "seconds", "waited"), 0.0)
