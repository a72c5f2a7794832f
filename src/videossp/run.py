"""`Run`, what came of a training, and the folder it leaves."""

import csv
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from videossp.adapter import versions
from videossp.classifier import Classifier
from videossp.datasets import Sample
from videossp.evaluate import Evaluation
from videossp.report import draw_confusion, draw_curves, write_page


@dataclass(frozen=True)
class Run:
    """What came of a training.

    Attributes:
        history: one row of figures per epoch.
        best: the row of the epoch that was kept, the best on validation.
        validation: the evaluation of that epoch.
        failures: reason by name of each video that could not be decoded (on_error "skip").
        seconds: wall-clock time.
    """

    history: list[dict[str, Any]]
    best: dict[str, Any]
    validation: Evaluation
    failures: dict[str, str]
    seconds: float

    @property
    def data_wait(self) -> float:
        """Share of the time of the epochs, without validation, in which the loop waited for clips."""
        waited = sum(row["data_wait"] * row["seconds"] for row in self.history)
        return float(waited / sum(row["seconds"] for row in self.history))


def make_run_folder(out: str | Path) -> Path:
    """A new run folder; what an earlier run left is never overwritten."""
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: exists and is not empty; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def arguments_of(classifier: Classifier) -> dict[str, Any]:
    """The arguments of `Classifier.create` that made it, but for classes, method, options and seed."""
    form, source = classifier.form, classifier.source
    return {
        "backbone": source.name,
        "weights": source.weights,
        "frames": form.frames,
        "size": form.size,
        "sampling": form.sampling,
        "stride": form.stride,
        "views": form.views,
        "drop_path": classifier.backbone.drop_path,
        "dropout": classifier.head.dropout.p,
    }


def write_setup(
    folder: Path,
    classifier: Classifier,
    origin: Mapping[str, Any],
    config: Mapping[str, Any],
    training: Sequence[Sample],
    validation: Sequence[Sample],
) -> None:
    """config.yaml (the flags of `videossp train`, resolved), env.json and split.csv."""
    settings: dict[str, Any] = {
        **(origin or {"data": None}),
        "method": classifier.method,
        **arguments_of(classifier),
        **config,
    }
    if classifier.options:
        chain = "+" in classifier.method  # then they are nested by the names of its members already
        settings |= classifier.options if chain else {classifier.method: classifier.options}
    plain = json.loads(json.dumps(settings))  # tuples become lists
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    seed = classifier.source.seed
    if seed != config["seed"]:
        text = f"# The classifier was made with seed {seed}, which these flags cannot tell.\n" + text
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    env = {
        "versions": versions(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "backbone_sha256": classifier.sha256,
    }
    (folder / "env.json").write_text(json.dumps(env, indent=2) + "\n")
    with (folder / "split.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["video", "split"])
        rows.writerows([x.name, "train"] for x in training)
        rows.writerows([x.name, "val"] for x in validation)


def write_results(folder: Path, classifier: Classifier, run: Run) -> None:
    """The pictures and report.html."""
    curves, confusion = folder / "curves.png", folder / "confusion.png"
    draw_curves(run.history, curves)
    draw_confusion(run.validation, confusion)
    facts = {
        "backbone": classifier.source.weights or classifier.source.name,
        "method": f"{classifier.method} {classifier.options or ''}",
        "best epoch": f"{run.best['epoch']} of {len(run.history)}, chosen on validation",
        "validation top-1": f"{100 * run.best['val_top1']:.1f} %",
        "mean class accuracy": f"{100 * run.best['val_mean_class_accuracy']:.1f} %",
        "videos not decoded": ", ".join(run.failures) or "none",
        "time": f"{run.seconds:.0f} s",
    }
    write_page(folder, f"{folder.name}: {classifier.method}", facts, [curves, confusion])
