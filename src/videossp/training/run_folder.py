"""The run folder of a training: claiming it, its settings, history and results."""

import csv
import io
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml

from videossp.classifier import Classifier
from videossp.data.datasets import Sample
from videossp.model.backbones import NOT_REBUILDABLE
from videossp.reporting.figures import draw_confusion, draw_curves
from videossp.reporting.page import write_report
from videossp.system.files import atomic_write, exclusive_lock
from videossp.system.versions import versions
from videossp.training.run import Run
from videossp.training.settings import arguments_of
from videossp.training.summaries import run_summary

CHECKPOINTS, CONFIG, HISTORY, LOCK = "checkpoints", "config.yaml", "metrics.jsonl", ".lock"


def make_run_folder(out: str | Path) -> Path:
    """Make a new run folder.

    Hidden files do not count: a run that was killed before it wrote config.yaml leaves only those.

    Raises:
        ValueError: it exists and is not empty.
    """
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(x.name[0] != "." for x in folder.iterdir())):
        raise ValueError(f"{folder}: exists and is not empty; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def claim_run(folder: Path) -> Iterator[None]:
    """A context in which no other process can train in a run folder.

    Raises:
        ValueError: there is no such folder, or another process trains in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such run folder")
    with exclusive_lock(folder / LOCK, f"{folder}: another process trains in it"):
        yield


def check_startable(folder: Path) -> None:
    """Refuse to start from the first step in the folder of a finished run, or of one with checkpoints.

    Raises:
        ValueError: says which of the two.
    """
    if any((folder / CHECKPOINTS).glob("step-*")):
        raise ValueError(f"{folder}: none of its checkpoints can be read; start again with another --out")
    history, config = folder / HISTORY, folder / CONFIG
    if history.is_file() and config.is_file():
        # The epochs of that run, which may not be those of the current settings.
        epochs = yaml.safe_load(config.read_text(encoding="utf-8"))["epochs"]
        if len(history.read_text(encoding="utf-8").splitlines()) >= epochs:
            raise ValueError(f"{folder}: finished, all {epochs} epochs; its adapter is {folder / 'adapter'}")


def write_history(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write metrics.jsonl, a line per epoch."""
    atomic_write(folder / HISTORY, "".join(json.dumps(row) + "\n" for row in history))


def write_setup(
    folder: Path,
    classifier: Classifier,
    origin: Mapping[str, Any],
    config: Mapping[str, Any],
    training: Sequence[Sample],
    validation: Sequence[Sample],
) -> None:
    """Write config.yaml (the resolved flags of `videossp train`), env.json and split.csv.

    Args:
        folder: the run folder.
        classifier: before the training.
        origin: the arguments of `read_data` that gave the data set.
        config: the fields of `TrainConfig`.
        training, validation: the videos of both.
    """
    write_config(folder, classifier, origin, config)
    env = {
        "versions": versions(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "backbone_sha256": classifier.sha256,
    }
    atomic_write(folder / "env.json", json.dumps(env, indent=2) + "\n")
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["video", "split"])
    rows.writerows([x.name, "train"] for x in training)
    rows.writerows([x.name, "val"] for x in validation)
    atomic_write(folder / "split.csv", table.getvalue())


def write_config(
    folder: Path, classifier: Classifier, origin: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
    """Write config.yaml, from which `videossp train` repeats or resumes the run."""
    settings: dict[str, Any] = {
        **(origin or {"data": None}),
        "method": classifier.method,
        **arguments_of(classifier),
        **config,
    }
    if classifier.options:
        chain = "+" in classifier.method  # its options are nested by the names of its members already
        settings |= classifier.options if chain else {classifier.method: classifier.options}
    plain = json.loads(json.dumps(settings))  # tuples become lists
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    source = classifier.source
    # A source that is an object does not record the seed of the classifier.
    if source.name not in NOT_REBUILDABLE and source.seed != config["seed"]:
        text = f"# The classifier was created with seed {source.seed}, which no flag sets.\n" + text
    atomic_write(folder / CONFIG, text)


def write_results(folder: Path, classifier: Classifier, run: Run) -> None:
    """Draw curves.png and confusion.png, and write report.html."""
    method = classifier.method
    draw_curves({method: run.history}, folder / "curves.png")
    draw_confusion(run.validation, folder / "confusion.png")
    table = run_summary(classifier, run)
    if classifier.options:
        table["options"] = ", ".join(f"{name} {value}" for name, value in classifier.options.items())
    if run.warnings:
        table["warnings"] = "; ".join(run.warnings)
    write_report(
        folder / "report.html",
        f"{folder.name}: {method}, on its validation videos",
        table,
        {method: run.validation},
        classifier.clip_format,
        {method: run.history},
    )
