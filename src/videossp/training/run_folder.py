"""`Run`, what came of a training, and the folder it leaves."""

import csv
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from videossp.adapter_folder import versions
from videossp.classifier import Classifier
from videossp.data.datasets import Sample
from videossp.inference.evaluate import Evaluation
from videossp.reporting.figures import draw_confusion, draw_curves
from videossp.reporting.page import write_report
from videossp.system.files import held, replace_file
from videossp.training.plan import Plan, TrainConfig

CHECKPOINTS, CONFIG = "checkpoints", "config.yaml"


@dataclass(frozen=True)
class Run:
    """What came of a training.

    Attributes:
        history: one row of figures per epoch.
        best: the row of the epoch that was kept, the best on validation.
        validation: the evaluation of that epoch.
        failures: reason by name of each video that could not be decoded (on_error "skip").
    """

    history: list[dict[str, Any]]
    best: dict[str, Any]
    validation: Evaluation
    failures: dict[str, str]

    @property
    def seconds(self) -> float:
        """Time of the epochs, without validation."""
        return float(sum(row["seconds"] for row in self.history))

    @property
    def data_wait(self) -> float:
        """Share of the time of the epochs, without validation, in which the loop waited for clips."""
        return float(sum(row["data_wait"] * row["seconds"] for row in self.history)) / self.seconds


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
    with held(folder / ".lock", f"{folder}: another process trains in it"):
        yield


def settings_of(classifier: Classifier, plan: Plan, config: TrainConfig) -> dict[str, Any]:
    """What a checkpoint belongs to: it may be gone on from only where all of this is the same."""
    free = ("workers", "timeout", "features", "save_minutes", "on_error", "max_skipped", "trackers")
    return {
        **{name: x for name, x in asdict(config).items() if name not in free},
        "clips_per_step": plan.clips_per_step,
        "method": classifier.method,
        "options": classifier.options,
        "drop_path": classifier.backbone.drop_path,
        "dropout": classifier.head.dropout.p,
        "clip": asdict(classifier.form),
        "classes": classifier.classes,
        "backbone_sha256": classifier.sha256,
        "training_videos": fingerprint(plan.training),
        "validation_videos": fingerprint(plan.validation),
    }


def fingerprint(samples: Sequence[Sample]) -> str:
    """sha256 of names and labels, in order."""
    return hashlib.sha256("\n".join(f"{x.name} {x.label}" for x in samples).encode()).hexdigest()


def check_settings(folder: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Refuse to go on with another training than the one that a checkpoint is of.

    Raises:
        ValueError: names what differs.
    """
    odd = differences(dict(there), json.loads(json.dumps(here)))
    if odd:
        said = "; ".join(x if len(x) < 100 else f"{x[:90]}..." for x in odd[:5])
        raise ValueError(f"{folder}: its checkpoint is of another training: {said}")


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
    replace_file(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))


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
    replace_file(folder / CONFIG, text)
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


def differences(there: Any, here: Any, name: str = "") -> list[str]:
    """What differs between two settings, as "name: value there, value here"."""
    if not (isinstance(there, dict) and isinstance(here, dict)):
        return [] if there == here else [f"{name}: {json.dumps(there)} there, {json.dumps(here)} here"]
    keys = [*there, *(key for key in here if key not in there)]
    dot = f"{name}." if name else ""
    return [x for key in keys for x in differences(there.get(key), here.get(key), f"{dot}{key}")]


def write_results(folder: Path, classifier: Classifier, run: Run) -> None:
    """The pictures and report.html."""
    method = classifier.method
    draw_curves({method: run.history}, folder / "curves.png")
    draw_confusion(run.validation, folder / "confusion.png")
    facts = facts_of(classifier, run)
    if classifier.options:
        facts["options"] = ", ".join(f"{name} {value}" for name, value in classifier.options.items())
    write_report(
        folder / "report.html",
        f"{folder.name}: {method}, on its validation videos",
        facts,
        {method: run.validation},
        classifier.form,
        {method: run.history},
    )


def facts_of(classifier: Classifier, run: Run) -> dict[str, str]:
    """What came of a training, as the table that ends it and its page say it."""
    best, skipped, validation = run.best, run.history[-1]["skipped_steps"], run.validation
    tuned, whole = (
        sum(x.numel() for x in xs) for xs in (classifier.tuned().values(), classifier.parameters())
    )
    clips = sum(row["seconds"] / row["seconds_per_clip"] for row in run.history)
    return {
        "backbone": classifier.source.weights or classifier.source.name,
        "method": classifier.method,
        "weights": f"{tuned:,} of {whole:,} trained",
        "best epoch": f"{best['epoch']} of {len(run.history)}, chosen on validation",
        "validation": f"top-1 {100 * best['val_top1']:.1f} %, mean class accuracy "
        f"{100 * best['val_mean_class_accuracy']:.1f} % on {len(validation.samples)} videos",
        "time": f"{run.seconds:.0f} s without validation, {run.seconds / clips:.2g} s a clip, "
        f"{100 * run.data_wait:.0f} % of it waiting for clips",
        **({"steps skipped": f"{skipped}, not finite"} if skipped else {}),
        **({"videos not decoded": ", ".join(run.failures)} if run.failures else {}),
    }
