"""One run of a comparison, in a separate process."""

import json
import pickle
import signal
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from videossp.adapter_folder import WEIGHTS
from videossp.classifier import Classifier
from videossp.comparison.folder import ERROR, RESULT, MethodPlan
from videossp.data.datasets import VideoDataset
from videossp.errors import VideoSSPWarning
from videossp.inference.evaluate import evaluate
from videossp.methods.registry import register_again
from videossp.model.device import peak_memory
from videossp.system.files import atomic_write
from videossp.system.printable import printable
from videossp.system.warn import warning_lines
from videossp.training.config import TrainConfig
from videossp.training.train import train

# The program of a child process. It reads the data set from standard input. The pipe then stays open until
# the parent process ends; when it closes, the child exits too.
CHILD = """
import json, os, pickle, signal, sys, threading
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path, arguments = json.loads(sys.argv[1])
from videossp.system.process import prepare_process
prepare_process()
samples = pickle.load(sys.stdin.buffer)
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
from videossp.comparison.worker import run_alone
run_alone(samples=samples, **arguments)
"""


def run_child(
    plan: MethodPlan, samples: VideoDataset, lr: float, seed: int, folder: Path, *, progress: bool
) -> dict[str, Any]:
    """Run a training in a new process.

    multiprocessing is not used: it would import the caller's program again, and torch before
    `prepare_process`. The option -I prevents that a json.py in the working folder replaces Python's. The
    data set goes through a pipe, because the length of a command line is limited.

    Returns:
        The figures of the run (`run_alone`); or its method, lr, seed and options with `error`, the reason of
        its failure.
    """
    run = {"method": plan.method, "lr": lr, "seed": seed, "options": plan.options}
    arguments = {**run, "settings": plan.settings, "folder": str(folder), "progress": progress}
    arguments |= {"registered": plan.registered, "device": plan.device}
    command = [sys.executable, "-I", "-c", CHILD, json.dumps([sys.path, arguments])]
    # stdout is for the table, so the child prints to stderr. With bufsize=0, closing the pipe of a child
    # that has failed raises no error.
    with Popen(command, stdin=PIPE, stdout=2, bufsize=0) as child:
        try:
            with suppress(BrokenPipeError):  # the exit code tells why
                send(samples, child.stdin)
            code = child.wait()
        finally:
            child.kill()
            child.wait()
    if (folder / RESULT).is_file():
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        return {name: value for name, value in result.items() if name != "settings"}
    if (folder / ERROR).is_file():
        reason = (folder / ERROR).read_text(encoding="utf-8").split("\n", 1)[0]
    elif code < 0:
        name = signal.Signals(-code).name
        reason = f"its process was killed by {name}" + " (too little memory?)" * (name == "SIGKILL")
    else:
        reason = f"its process ended with exit code {code}"
    return run | {"error": reason}


def send(samples: VideoDataset, pipe: Any) -> None:
    """Write a pickled data set to an unbuffered pipe, which may take only a part at once."""
    rest = memoryview(pickle.dumps(samples))
    while rest:
        rest = rest[pipe.write(rest) :]


def run_alone(samples: VideoDataset, registered: Sequence[Any] = (), **arguments: Any) -> None:
    """Run a training in this process and write its run folder with result.json, or with error.txt.

    result.json is written last, so that a folder without it is an unfinished run.

    Args:
        samples: the data set.
        registered: methods that the parent process registered (`registry.registrations`).
        arguments: the others of `run_figures`.
    """
    folder, settings = Path(arguments["folder"]), arguments["settings"]

    def show(text: str) -> None:
        if arguments["progress"]:
            print(f"videossp: {printable(text)}", file=sys.stderr)

    started = time.monotonic()
    try:
        register_again(registered)
        with warning_lines(show, known=settings["notes"]):  # the parent process has shown these
            figures = run_figures(samples, **arguments)
        figures["minutes"] = (time.monotonic() - started) / 60
        figures["settings"] = settings
        atomic_write(folder / RESULT, json.dumps(figures, indent=2) + "\n")
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        folder.mkdir(exist_ok=True)
        atomic_write(folder / ERROR, f"{reason}\n\n{traceback.format_exc()}")
        sys.exit(1)


def run_figures(
    samples: VideoDataset,
    settings: Mapping[str, Any],
    method: str,
    options: Mapping[str, Any],
    lr: float,
    seed: int,
    folder: str,
    device: str,
    progress: bool,
) -> dict[str, Any]:
    """Train, evaluate on the split that counts, and collect the figures of result.json."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VideoSSPWarning)  # shown by the parent process
        classifier = Classifier.create(
            **settings["classifier"], classes=samples.classes, method=method, seed=seed, **options
        )
    config = TrainConfig(**{**settings["training"], "device": device}, lr=lr, seed=seed)
    run = train(classifier, samples, config, out=folder, progress=progress)
    memory = run.gpu_memory or peak_memory(classifier.device)
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
    assert result is not None  # `compare` refuses data with neither test nor validation videos
    trained = {name: x.numel() for name, x in classifier.trainable().items()}
    times = [row["seconds_per_clip"] for row in run.history[1:] or run.history]  # the first compiles kernels
    return {
        "method": method,
        "lr": lr,
        "seed": seed,
        "options": options,
        "error": None,
        "parameters": sum(trained.values()),
        "all_parameters": sum(x.numel() for x in classifier.parameters()),
        "method_parameters": sum(count for name, count in trained.items() if not name.startswith("head.")),
        "best_epoch": run.best["epoch"],
        **result.summary(),
        # For each video, in order, so that methods can be compared video by video.
        "hits": "".join(str(int(hit)) for hit in result.hits),
        "predicted": result.predicted,
        "losses": [x if x is None else round(x, 4) for x in result.losses],
        **{name: run.best[name] for name in ("val_top1", "val_loss")},
        "seconds_per_clip": statistics.fmean(times),
        "memory_gb": memory,
        "adapter_mb": (Path(folder) / "adapter" / WEIGHTS).stat().st_size / 1e6,
    }
