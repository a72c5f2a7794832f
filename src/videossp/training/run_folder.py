"""`Run`, what came of a training, and the folder it leaves."""

import csv
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
from videossp.reporting.figures import draw_confusion, draw_curves
from videossp.reporting.page import write_report
from videossp.system.files import atomic_write, exclusive_lock
from videossp.system.versions import versions
from videossp.training.run import Run
from videossp.training.settings import arguments_of
from videossp.training.summaries import run_summary

CHECKPOINTS, CONFIG = "checkpoints", "config.yaml"


def make_run_folder(out: str | Path) -> Path:
    """A new run folder; what an earlier run left is never overwritten.

    One that was killed before it wrote its config.yaml, which is the first, left hidden files only.
    """
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(x.name[0] != "." for x in folder.iterdir())):
        raise ValueError(f"{folder}: exists and is not empty; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def claim_run(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to a run folder."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such run folder")
    with exclusive_lock(folder / ".lock", f"{folder}: another process trains in it"):
        yield


def refuse_finished(folder: Path) -> None:
    """Refuse to begin again in a folder whose run has come to its end, or whose checkpoints are damaged."""
    rows, config = folder / "metrics.jsonl", folder / CONFIG
    if any((folder / CHECKPOINTS).glob("step-*")):
        raise ValueError(f"{folder}: none of its checkpoints can be read; begin again with another --out")
    if rows.is_file() and config.is_file():
        epochs = yaml.safe_load(config.read_text(encoding="utf-8"))[
            "epochs"
        ]  # not those that are asked for now
        if len(rows.read_text(encoding="utf-8").splitlines()) >= epochs:
            raise ValueError(f"{folder}: finished, all {epochs} epochs; its adapter is {folder / 'adapter'}")


def write_history(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """metrics.jsonl, one line for each epoch."""
    atomic_write(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))


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
    atomic_write(folder / CONFIG, text)
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
    method = classifier.method
    draw_curves({method: run.history}, folder / "curves.png")
    draw_confusion(run.validation, folder / "confusion.png")
    facts = run_summary(classifier, run)
    if classifier.options:
        facts["options"] = ", ".join(f"{name} {value}" for name, value in classifier.options.items())
    write_report(
        folder / "report.html",
        f"{folder.name}: {method}, on its validation videos",
        facts,
        {method: run.validation},
        classifier.clip_format,
        {method: run.history},
    )
