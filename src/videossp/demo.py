"""`demo`: an end-to-end run on the bundled clips and weights, without network, in about three minutes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from videossp.bundled import unpack_clips
from videossp.classifier import Classifier
from videossp.comparison.intervals import wilson
from videossp.data.datasets import read_data
from videossp.data.doctor.examine import examine
from videossp.errors import DataError
from videossp.explanation.explain import explain
from videossp.inference.evaluate import evaluate
from videossp.model.device import Device, choose_device
from videossp.reporting.explained import HOW_TO_READ, explained
from videossp.reporting.page import write_report
from videossp.training.config import TrainConfig
from videossp.training.run_folder import make_run_folder
from videossp.training.train import train

BACKBONE = "videomamba_nano"
# Flips are off: a mirrored clip would show another action. The documented figures are those of float32.
SETTINGS: dict[str, Any] = {"batch_size": 8, "lr": 1e-2, "flip": "off", "precision": "float32"}
METHODS = {
    "linear": TrainConfig(epochs=40, fixed_augmentations=2, **SETTINGS),
    "ssp": TrainConfig(epochs=20, **SETTINGS),
    "gather_spread": TrainConfig(epochs=20, **SETTINGS),
}
# Their defaults on this backbone. Written out, so that the documented figures have their sizes with them.
OPTIONS: dict[str, dict[str, Any]] = {
    "linear": {},
    "ssp": {"gather_width": 128, "spread_width": 88},
    "gather_spread": {"rank": 48, "layers": 2, "moment_rank": 8},
}


def demo(out: str | Path, say: Callable[[str], None], device: Device = "auto") -> dict[str, Any]:
    """Unpack and check the clips, train and test the methods of `METHODS`, predict, and write a report.

    The last method explains its prediction of an unseen clip.

    Args:
        out: folder to write: clips/, unseen/, a run folder for each method, report.html.
        say: called with each line of progress.
        device: that trains and tests, see `choose_device`.

    Returns:
        The results; `demo_lines` prints them.

    Raises:
        ValueError: the folder is not empty, or there is no such device.
        DataError: the check of the unpacked clips has an error.
    """
    started = time.monotonic()
    chosen = choose_device(device)
    folder = make_run_folder(out)
    clips, unseen = unpack_clips(folder)
    data = read_data(clips)
    sizes = {split: len(samples) for split, samples in data.splits.items()}
    say(f"{clips}: {sizes['train']} clips to train, {sizes['test']} to test; {', '.join(data.classes)}")
    diagnosis = examine(clips)
    say("doctor: " + ", ".join(f"{count} {severity}" for severity, count in diagnosis.counts.items()))
    if diagnosis.errors:
        raise DataError(f"{clips}: {diagnosis.errors[0].message}")
    methods, tests, histories = {}, {}, {}
    for method, config in METHODS.items():
        say(f"{BACKBONE} + {method}: {config.epochs} epochs")
        classifier = Classifier.create(BACKBONE, classes=data.classes, method=method, **OPTIONS[method])
        # The epochs of the probe take seconds: no progress to follow.
        config = replace(config, device=str(chosen))
        run = train(classifier, data, config, out=folder / method, progress=method != "linear")
        tests[method], histories[method] = evaluate(classifier, data.splits["test"]), run.history
        methods[method] = {
            **tests[method].summary(),
            "interval": wilson(tests[method].top(1), sizes["test"]),
            "trained": sum(x.numel() for x in classifier.trainable().values()),
            "seconds": run.seconds,
            "epochs": config.epochs,
            "lr": config.lr,
            "options": OPTIONS[method],
        }
    (prediction,) = classifier.predict(unseen[0])
    parts = ["<h2>Explanation of a prediction</h2>", HOW_TO_READ, *explained(explain(classifier, unseen[0]))]
    results = {
        "backbone": BACKBONE,
        "backbone_sha256": classifier.sha256,
        "classes": data.classes,
        "clips": sizes,
        "doctor": diagnosis.counts,
        "methods": methods,
        "unseen": {
            "video": prediction.path,
            "class": unseen[0].stem,
            "probabilities": prediction.probabilities,
        },
        "report": str(folder / "report.html"),
        "seconds": time.monotonic() - started,
    }
    order = tuple(reversed(METHODS))  # the same in all pictures, so that a method keeps its colour
    write_report(
        folder / "report.html",
        f"{len(data.classes)} actions, {sizes['train']} clips: {', '.join(reversed(METHODS))}",
        table_of(results),
        {method: tests[method] for method in order},
        classifier.clip_format,
        {method: histories[method] for method in order},
        more=parts,
    )
    return results


def table_of(results: Mapping[str, Any]) -> list[list[str]]:
    """The results as a table: a header, then chance and each method."""
    count = results["clips"]["test"]
    rows = [["", f"top-1, {count} clips", "95 % interval", "weights trained", "epochs", "training"]]
    rows.append(["chance", f"{100 / len(results['classes']):.1f} %", "", "", "", ""])
    for method, x in results["methods"].items():
        interval = "{:.0f} to {:.0f} %".format(*(100 * end for end in x["interval"]))
        costs = f"{x['trained']:,}", str(x["epochs"]), f"{x['seconds']:.0f} s"
        rows.append([method, f"{100 * x['top1']:.1f} %", interval, *costs])
    return rows


def demo_lines(results: Mapping[str, Any]) -> list[str]:
    """The results as the lines that `videossp demo` prints at the end."""
    rows, unseen = table_of(results), results["unseen"]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    best = [f"{100 * p:.1f} % {name}" for name, p in unseen["probabilities"].items()][:3]
    return [
        *("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows),
        f"{unseen['video']}: {', '.join(best)} (it is {unseen['class']})",
        f"{results['report']}: curves, accuracy by class, film strips; {results['seconds']:.0f} s in all",
    ]
