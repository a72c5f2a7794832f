"""`Comparison`, what came of comparing methods: figures by method with their intervals, table, files."""

import csv
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from videossp.comparison.intervals import over_videos, student, widened, wilson
from videossp.reporting.figures import draw_comparison
from videossp.system.files import atomic_write

RESULTS = "results.json"
FIGURES = (
    *("lr", "parameters", "parameters_m", "parameters_percent", "method_parameters"),
    *("top1", "top1_low", "top1_high", "interval", "difference", "difference_low", "difference_high"),
    *("seconds_per_clip", "memory_gb", "adapter_mb"),
)


@dataclass(frozen=True)
class Comparison:
    """What came of a comparison.

    Attributes:
        methods: in the order of the table.
        seeds: of every method.
        settings: what all runs share.
        runs: of each run that ended: method, lr, seed, options and figures. `error` is None, or the reason
            why it failed; then there are no figures.
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
        """By learning rate, the merit of the first seed."""
        own = (run for run in self.runs if run["method"] == method and run["seed"] == self.seeds[0])
        return {run["lr"]: merit(run) for run in sorted(own, key=lambda run: run["lr"])}

    def lr_of(self, method: str) -> float | None:
        """The learning rate of most merit, of equals the smallest; None: none was run."""
        merits = self.merits(method)
        return max(merits, key=merits.__getitem__, default=None)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row of figures per method, of its runs at `lr_of` that did not fail; None where there are none.

        `parameters` counts what trains, with the head and the final norm; `method_parameters` is without
        these two. `top1` is the mean share over seeds, `top1_low` to `top1_high` its 95 % interval, made
        as `interval` says: how telling the videos are (Wilson) and, of several seeds, how much a seed
        matters (Student), which are independent. `difference` is that of top1 to the first method, see
        `difference`. `seconds_per_clip` of training is a mean, `memory_gb` the largest of the seeds.
        """
        return [self._row(method) for method in self.methods]

    def _row(self, method: str) -> dict[str, Any]:
        ended = self._at_best(method)
        good = [run for run in ended if run["error"] is None]
        row = {
            "method": method,
            "seeds": len(good),
            "failed": len(ended) - len(good),
            **dict.fromkeys(FIGURES),
            "lr": self.lr_of(method),
        }
        if not good:
            return row
        tops, videos = [run["top1"] for run in good], good[0]["videos"]
        top, made = statistics.fmean(tops), f"Wilson, {videos} videos"
        low, high = wilson(top, videos)
        if len(tops) > 1:
            low, high = widened(top, low, high, student(tops)[1] - top)
            low, high = max(0.0, low), min(1.0, high)
            made += f" + Student t, {len(tops)} seeds"
        first = [run for run in self._at_best(self.methods[0]) if run["error"] is None]
        if method != self.methods[0] and (found := difference(good, first)):
            row |= dict(zip(("difference", "difference_low", "difference_high"), found, strict=True))
        return row | {
            "parameters": good[0]["parameters"],
            "parameters_m": good[0]["parameters"] / 1e6,
            "parameters_percent": 100 * good[0]["parameters"] / good[0]["all_parameters"],
            "method_parameters": good[0]["method_parameters"],
            "top1": top,
            "top1_low": low,
            "top1_high": high,
            "interval": made,
            "seconds_per_clip": statistics.fmean(run["seconds_per_clip"] for run in good),
            "memory_gb": max(run["memory_gb"] for run in good),
            "adapter_mb": max(run["adapter_mb"] for run in good),
        }

    def _at_best(self, method: str) -> list[dict[str, Any]]:
        lr = self.lr_of(method)
        return [run for run in self.runs if (run["method"], run["lr"]) == (method, lr)]

    def summary(self) -> dict[str, Any]:
        """The content of results.json."""
        return {**asdict(self), "rows": self.rows}

    def table(self) -> list[str]:
        """The rows as lines of text, then what failed and how the figures were made."""
        against = f"- {self.methods[0]} (points)"
        header = ("method", "lr", "seeds", "trained (M)", "of all (%)", "top-1 (%)", against)
        costs = ("s/clip", "GB", "adapter (MB)")
        cells = [header + costs, *(self._cells(row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in cells
        ]
        lines += [
            f"FAILED {run['method']}, lr {run['lr']:g}, seed {run['seed']}: {run['error']}"
            for run in self.failed
        ]
        split, made = self.settings["evaluated_on"], sorted({x["interval"] for x in self.rows} - {None})
        chosen = "" if split == "test" else ", which also chose epoch and lr: there is no test split"
        lines += [
            "",
            f"top-1 on the split {split}{chosen}; 95 % interval: {'; '.join(made) or 'none'}",
            "difference to the first method: paired by seed and video, with its 95 % interval",
            "trained: with head and final norm; s/clip: training, after the first epoch; GB: peak of a run",
            *self._about_rates(),
            *(f"note: {x}" for x in self.settings.get("notes", ())),
        ]
        return lines

    def _about_rates(self) -> list[str]:
        tried = sorted({lr for method in self.methods for lr in self.merits(method)})
        if len(tried) < 2:
            return [
                "lr: one for all; with several, --lr 0.001,0.003,0.01, validation chooses that of each method"
            ]
        ends = [x for x in self.methods if self.lr_of(x) in (tried[0], tried[-1])]
        further = f"; at an end of these: {', '.join(ends)}, so try further ones" if ends else ""
        rates = ", ".join(f"{x:g}" for x in tried)
        chosen = f"least loss of {rates} on the split that chose the epoch, with seed {self.seeds[0]}"
        return [f"lr: {chosen}{further}"]

    def _cells(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        seeds = str(row["seeds"]) + f" of {row['seeds'] + row['failed']}" * (row["failed"] > 0)
        lr = "-" if row["lr"] is None else f"{row['lr']:g}"
        if not row["seeds"]:
            return (row["method"], lr, seeds, *["-"] * 7)
        top, low, high = (100 * row[name] for name in ("top1", "top1_low", "top1_high"))
        against = ""
        if row["difference"] is not None:
            gap, least, most = (100 * row[f"difference{end}"] for end in ("", "_low", "_high"))
            against = f"{gap:+.1f} ({least:+.1f} to {most:+.1f})"
        return (
            row["method"],
            lr,
            seeds,
            f"{row['parameters_m']:.4f}",
            f"{row['parameters_percent']:.3f}",
            f"{top:.1f} ({low:.1f} to {high:.1f})",
            against,
            f"{row['seconds_per_clip']:.3f}",
            f"{row['memory_gb']:.2f}",
            f"{row['adapter_mb']:.3f}",
        )


def merit(run: Mapping[str, Any]) -> tuple[float, float]:
    """How good a learning rate is, on validation: minus the loss, then the accuracy; -inf if it failed.

    The loss first: it uses how sure a classifier is of each video, where the accuracies of two rates on a few
    hundred videos differ by two or three of them, that is by chance.
    """
    return (-run["val_loss"], run["val_top1"]) if run["error"] is None else (-math.inf, 0.0)


def difference(
    runs: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]]
) -> tuple[float, float, float] | None:
    """How much more of the videos one method gets right than another, and the 95 % interval of that.

    Runs of the same seed are compared video by video; the interval is over videos, see `over_videos`, and, if
    they share several, over seeds (Student), which are independent.

    Returns:
        mean, low, high, as shares of the videos; None if no seed is shared, or hits were not kept.
    """
    theirs = {run["seed"]: run["hits"] for run in reference if "hits" in run}
    pairs = [(run["hits"], theirs[run["seed"]]) for run in runs if "hits" in run and run["seed"] in theirs]
    if not pairs:
        return None
    gaps = [[int(a) - int(b) for a, b in zip(*pair, strict=True)] for pair in pairs]
    mean, low, high = over_videos([statistics.fmean(x) for x in zip(*gaps, strict=True)])
    over_seeds = student([statistics.fmean(x) for x in gaps])[1] - mean if len(gaps) > 1 else 0.0
    return mean, *widened(mean, low, high, over_seeds)


def write(folder: Path, comparison: Comparison) -> None:
    """results.json, results.csv and accuracy.png; the first two appear whole or not at all."""
    text = json.dumps(comparison.summary(), indent=2, ensure_ascii=False) + "\n"
    atomic_write(folder / RESULTS, text)
    rows = comparison.rows
    table = io.StringIO(newline="")
    sheet = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    sheet.writeheader()
    sheet.writerows(rows)
    atomic_write(folder / "results.csv", table.getvalue())
    if any(row["seeds"] for row in rows):
        draw_comparison(rows, folder / "accuracy.png")
