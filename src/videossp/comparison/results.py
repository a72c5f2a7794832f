"""`Comparison`: the runs of a comparison and the figures of each method, with intervals."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from videossp.comparison.intervals import over_videos, student, widened, wilson
from videossp.comparison.table import table_lines

FIGURES = (
    *("lr", "parameters", "parameters_m", "parameters_percent", "method_parameters"),
    *("top1", "top1_low", "top1_high", "interval", "difference", "difference_low", "difference_high"),
    *("seconds_per_clip", "memory_gb", "adapter_mb"),
)


@dataclass(frozen=True)
class Comparison:
    """The runs of a comparison.

    Attributes:
        methods: in the order of the table.
        seeds: of every method.
        settings: data, backbone and training settings that all runs share.
        runs: method, lr, seed, options and figures of each run that ended. `error` is None, or the reason of
            a failure; a run that failed has no figures.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: dict[str, Any]
    runs: list[dict[str, Any]]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The runs that failed."""
        return [run for run in self.runs if run["error"] is not None]

    def merits(self, method: str) -> dict[float, tuple[float, float]]:
        """By learning rate, in rising order, the `merit` of the run with the first seed."""
        first = (run for run in self.runs if run["method"] == method and run["seed"] == self.seeds[0])
        return {run["lr"]: merit(run) for run in sorted(first, key=lambda run: run["lr"])}

    def lr_of(self, method: str) -> float | None:
        """The selected learning rate: the best by `merit`, the smallest if several are equal.

        A method with one rate has this rate. None: no run of the method has ended.
        """
        merits = self.merits(method)
        return max(merits, key=merits.__getitem__, default=None)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The figures of each method, from its successful runs at `lr_of`; None where there are none.

        - lr: the selected learning rate. seeds, failed: number of successful and of failed runs.
        - parameters: trained parameters, with head and final norm; parameters_m in millions,
          parameters_percent of all parameters. method_parameters: without head and final norm.
        - top1: mean over seeds, as a fraction. top1_low, top1_high: its 95 % interval. `interval` names the
          parts of it: over videos (Wilson) and, with several seeds, over seeds (Student), which are
          independent and added in quadrature.
        - difference, difference_low, difference_high: of top1 to the first method, see `difference`.
        - seconds_per_clip: of training, mean over seeds. memory_gb: largest peak of a run. adapter_mb: size.
        """
        return [self._row(method) for method in self.methods]

    def _row(self, method: str) -> dict[str, Any]:
        ended = self._selected(method)
        runs = [run for run in ended if run["error"] is None]
        row = {
            "method": method,
            "seeds": len(runs),
            "failed": len(ended) - len(runs),
            **dict.fromkeys(FIGURES),
            "lr": self.lr_of(method),
        }
        if not runs:
            return row
        accuracies, videos = [run["top1"] for run in runs], runs[0]["videos"]
        top1, parts = statistics.fmean(accuracies), f"Wilson, {videos} videos"
        low, high = wilson(top1, videos)
        if len(accuracies) > 1:
            low, high = widened(top1, low, high, student(accuracies)[1] - top1)
            low, high = max(0.0, low), min(1.0, high)
            parts += f" + Student t, {len(accuracies)} seeds"
        if method != self.methods[0]:
            reference = [run for run in self._selected(self.methods[0]) if run["error"] is None]
            if gap := difference(runs, reference):
                row |= dict(zip(("difference", "difference_low", "difference_high"), gap, strict=True))
        return row | {
            "parameters": runs[0]["parameters"],
            "parameters_m": runs[0]["parameters"] / 1e6,
            "parameters_percent": 100 * runs[0]["parameters"] / runs[0]["all_parameters"],
            "method_parameters": runs[0]["method_parameters"],
            "top1": top1,
            "top1_low": low,
            "top1_high": high,
            "interval": parts,
            "seconds_per_clip": statistics.fmean(run["seconds_per_clip"] for run in runs),
            "memory_gb": max(run["memory_gb"] for run in runs),
            "adapter_mb": max(run["adapter_mb"] for run in runs),
        }

    def _selected(self, method: str) -> list[dict[str, Any]]:
        lr = self.lr_of(method)
        return [run for run in self.runs if (run["method"], run["lr"]) == (method, lr)]

    def summary(self) -> dict[str, Any]:
        """The content of results.json."""
        return {**asdict(self), "rows": self.rows}

    def table(self) -> list[str]:
        """The rows as lines of text; below them the failures and how the figures were made."""
        return table_lines(self)


def merit(run: Mapping[str, Any]) -> tuple[float, float]:
    """The order of learning rates: by validation loss, then by validation accuracy; a failed run comes last.

    The loss comes first because it uses the probability of each video. Accuracies on a few hundred videos
    differ by two or three videos, which is chance. Without validation there is one rate only.

    Returns:
        (minus the loss, accuracy); the larger the better.
    """
    if run["error"] is not None:
        return -math.inf, 0.0
    return (0.0, 0.0) if run["val_loss"] is None else (-run["val_loss"], run["val_top1"])


def difference(
    runs: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]]
) -> tuple[float, float, float] | None:
    """The difference of accuracy between two methods, with its 95 % interval.

    Runs with the same seed are paired and compared video by video. The interval is over videos
    (`over_videos`) and, with several common seeds, over seeds (Student), which are independent and added in
    quadrature.

    Args:
        runs: of one method, with "seed" and "hits", a character 0 or 1 for each video.
        reference: runs of the other method.

    Returns:
        (mean, low, high) as fractions of the videos; None without a common seed or without hits.
    """
    hits = {run["seed"]: run["hits"] for run in reference if "hits" in run}
    pairs = [(run["hits"], hits[run["seed"]]) for run in runs if "hits" in run and run["seed"] in hits]
    if not pairs:
        return None
    gaps = [[int(a) - int(b) for a, b in zip(*pair, strict=True)] for pair in pairs]
    mean, low, high = over_videos([statistics.fmean(x) for x in zip(*gaps, strict=True)])
    half_over_seeds = student([statistics.fmean(x) for x in gaps])[1] - mean if len(gaps) > 1 else 0.0
    return mean, *widened(mean, low, high, half_over_seeds)
