"""One run of a comparison, in a process of its own."""

import json
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from videossp.adapter_folder import WEIGHTS
from videossp.classifier import Classifier
from videossp.data.datasets import read_data
from videossp.inference.evaluate import evaluate
from videossp.system.files import atomic_write
from videossp.system.process import peak_memory
from videossp.training.config import TrainConfig
from videossp.training.train import train

RESULT, ERROR = "result.json", "error.txt"

# What a run's own process does. It ends when this process does, for then its standard input ends.
CHILD = """
import json, os, signal, sys, threading
signal.signal(signal.SIGINT, signal.SIG_IGN)
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
sys.path, job = json.loads(sys.argv[1])
from videossp.system.process import prepare_process
prepare_process()
from videossp.comparison.worker import run_alone
run_alone(**job)
"""


def run_child(job: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a run made in a new process, or why it failed.

    A process started by multiprocessing would import the caller's program again, and torch before
    `prepare_process`. -I keeps a json.py in the working folder from being taken for Python's.
    """
    folder = Path(job["folder"])
    command = [sys.executable, "-I", "-c", CHILD, json.dumps([sys.path, job])]
    with Popen(command, stdin=PIPE, stdout=2) as child:  # stdout is for the table
        try:
            code = child.wait()
        finally:
            child.kill()
            child.wait()
    if (folder / RESULT).is_file():
        run = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        return {name: value for name, value in run.items() if name != "settings"}
    if (folder / ERROR).is_file():
        reason = (folder / ERROR).read_text(encoding="utf-8").split("\n", 1)[0]
    elif code < 0:
        name = signal.Signals(-code).name
        reason = f"its process was killed by {name}" + ", for want of memory?" * (name == "SIGKILL")
    else:
        reason = f"its process ended with exit code {code}"
    return {**{name: job[name] for name in ("method", "lr", "seed", "options")}, "error": reason}


def run_alone(
    settings: Mapping[str, Any],
    method: str,
    options: Mapping[str, Any],
    lr: float,
    seed: int,
    folder: str,
    progress: bool,
) -> None:
    """One run in this process: a run folder with result.json, written last, or with error.txt."""
    began = time.monotonic()
    try:
        samples = read_data(**settings["data"])
        classifier = Classifier.create(
            **settings["classifier"], classes=samples.classes, method=method, seed=seed, **options
        )
        config = TrainConfig(**settings["training"], lr=lr, seed=seed)
        run = train(classifier, samples, config, out=folder, progress=progress)
        memory = peak_memory()
        result = run.validation
        if settings["evaluated_on"] == "test":
            result = evaluate(
                classifier,
                samples.splits["test"],
                workers=config.workers,
                timeout=config.timeout,
                on_error=config.on_error,
                progress=progress,
            )
        tuned = {name: x.numel() for name, x in classifier.trainable().items()}
        # The first epoch compiles kernels.
        times = [row["seconds_per_clip"] for row in run.history[1:] or run.history]
        figures = {
            "method": method,
            "lr": lr,
            "seed": seed,
            "options": options,
            "error": None,
            "parameters": sum(tuned.values()),
            "all_parameters": sum(x.numel() for x in classifier.parameters()),
            "method_parameters": sum(count for name, count in tuned.items() if not name.startswith("head.")),
            "best_epoch": run.best["epoch"],
            **result.summary(),
            # Of each video, in their order, so that methods can be compared video by video.
            "hits": "".join(str(int(hit)) for hit in result.hits),
            **{name: run.best[name] for name in ("val_top1", "val_loss")},
            "minutes": (time.monotonic() - began) / 60,
            "seconds_per_clip": statistics.fmean(times),
            "memory_gb": memory,
            "adapter_mb": (Path(folder) / "adapter" / WEIGHTS).stat().st_size / 1e6,
            "settings": settings,
        }
        atomic_write(Path(folder) / RESULT, json.dumps(figures, indent=2) + "\n")
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        Path(folder).mkdir(exist_ok=True)
        atomic_write(Path(folder) / ERROR, f"{reason}\n\n{traceback.format_exc()}")
        sys.exit(1)
