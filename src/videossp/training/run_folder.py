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
from videossp.training.settings import arguments_of, differences, without_free
from videossp.training.summaries import run_summary

ADAPTER, CHECKPOINTS, CONFIG, ENVIRONMENT = "adapter", "checkpoints", "config.yaml", "env.json"
HISTORY, LOCK, REPORT = "metrics.jsonl", ".lock", "report.html"
CURVES, CONFUSION = "curves.png", "confusion.png"


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
        ValueError: there is no such folder, another process trains in it, or it has a link to a folder
            elsewhere, in which the run would replace files.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such run folder")
    for path in (folder / ADAPTER, folder / CHECKPOINTS, folder / folder.name):  # the last is of TensorBoard
        if path.is_symlink():
            raise ValueError(f"{path}: a run does not write through a symbolic link; replace it by a folder")
    with exclusive_lock(folder / LOCK, f"{folder}: another process trains in it"):
        yield


def check_startable(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse to start from the first step where that would replace results or checkpoints of a run.

    Only a run that was killed before its first checkpoint has neither.

    Args:
        folder: the run folder.
        settings: of this training (`settings_table`).

    Raises:
        ValueError: says what the folder has, and which settings differ from those of its run.
    """
    if any((folder / CHECKPOINTS).glob("step-*")):
        raise ValueError(f"{folder}: none of its checkpoints can be read; start again with another --out")
    names = [x for x in (ADAPTER, HISTORY, REPORT, CURVES, CONFUSION) if has_content(folder / x)]
    if not names:
        return
    saved = recorded_settings(folder)
    rows = len((folder / HISTORY).read_bytes().splitlines()) if HISTORY in names else 0
    epochs = saved.get("epochs", settings["epochs"])
    changes = differences(without_free(saved), without_free(settings))
    changed = f"; these settings differ: {'; '.join(changes[:5])}" if saved and changes else ""
    again = "to train again, choose another --out"
    if rows < epochs:
        raise ValueError(
            f"{folder}: has {', '.join(names)}, but no checkpoint to resume from ({HISTORY} has {rows} of "
            f"{epochs} epochs){changed}; {again}"
        )
    if ADAPTER not in names:
        raise ValueError(f"{folder}: finished, all {epochs} epochs, but its adapter is gone; {again}")
    advice = f"{changed}, and a finished run cannot continue with them; {again}" if changed else ""
    raise ValueError(f"{folder}: finished, all {epochs} epochs; its adapter is {folder / ADAPTER}{advice}")


def has_content(path: Path) -> bool:
    """Whether a folder is not empty, or a file is not."""
    return any(path.iterdir()) if path.is_dir() else path.is_file() and path.stat().st_size > 0


def recorded_settings(folder: Path) -> dict[str, Any]:
    """The settings with which a run started: those in env.json. Empty for a run of an older version.

    They are not read from config.yaml, which users edit.
    """
    try:
        settings = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))["settings"]
        return dict(settings)
    except (OSError, ValueError, KeyError, TypeError):
        return {}


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
        "settings": settings_table(classifier, origin, config),
    }
    atomic_write(folder / ENVIRONMENT, json.dumps(env, indent=2) + "\n")
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["video", "split"])
    rows.writerows([x.name, "train"] for x in training)
    rows.writerows([x.name, "val"] for x in validation)
    atomic_write(folder / "split.csv", table.getvalue())


def settings_table(
    classifier: Classifier, origin: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings of a training by the names of the flags of `videossp train`, with lists for tuples."""
    settings: dict[str, Any] = {
        **(origin or {"data": None}),
        "method": classifier.method,
        **arguments_of(classifier),
        **config,
    }
    if classifier.options:
        chain = "+" in classifier.method  # its options are nested by the names of its members already
        settings |= classifier.options if chain else {classifier.method: classifier.options}
    plain: dict[str, Any] = json.loads(json.dumps(settings))  # tuples become lists
    return plain


def write_config(
    folder: Path, classifier: Classifier, origin: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
    """Write config.yaml, from which `videossp train` repeats or resumes the run."""
    settings = settings_table(classifier, origin, config)
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    source = classifier.source
    # A source that is an object does not record the seed of the classifier.
    if source.name not in NOT_REBUILDABLE and source.seed != config["seed"]:
        text = f"# The classifier was created with seed {source.seed}, which no flag sets.\n" + text
    atomic_write(folder / CONFIG, text)


def write_results(folder: Path, classifier: Classifier, run: Run) -> None:
    """Draw curves.png and, of the validation, confusion.png, and write report.html."""
    method = classifier.method
    draw_curves({method: run.history}, folder / CURVES)
    if run.validation:
        draw_confusion(run.validation, folder / CONFUSION)
    table = run_summary(classifier, run)
    if classifier.options:
        table["options"] = ", ".join(f"{name} {value}" for name, value in classifier.options.items())
    if run.warnings:
        table["warnings"] = "; ".join(run.warnings)
    write_report(
        folder / REPORT,
        f"{folder.name}: {method}, {'on its validation videos' if run.validation else 'without validation'}",
        table,
        {method: run.validation} if run.validation else {},
        classifier.clip_format,
        {method: run.history},
    )
