"""The folder of a comparison: finished and unfinished runs, results.json, results.csv and accuracy.png."""

import csv
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from videossp.comparison.results import Comparison
from videossp.reporting.figures import draw_comparison
from videossp.system.files import atomic_write, exclusive_lock
from videossp.training.config import TrainConfig, current_names
from videossp.training.settings import differences

RESULTS, LOCK = "results.json", ".lock"
RESULT, ERROR = "result.json", "error.txt"  # of a run

Key = tuple[str, float, int]  # a run: method, learning rate, seed


@dataclass(frozen=True)
class MethodPlan:
    """The part of a method's runs that does not depend on the seed.

    Attributes:
        method: name of a method, or a chain.
        options: all options of the method.
        settings: data, backbone and training settings, which all runs of a comparison share.
        lrs: learning rates to select from.
        device: name of the device that trains; its kind is one of the settings.
        registered: arguments of `register_again`, for the methods that this program registered.
    """

    method: str
    options: dict[str, Any]
    settings: dict[str, Any]
    lrs: tuple[float, ...]
    device: str = "cpu"
    registered: Sequence[Any] = ()


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Make the folder of a comparison, or open an earlier one, and keep other processes out.

    Raises:
        ValueError: the folder has other content, or another comparison runs in it.
    """
    if folder.exists() and not is_comparison(folder):
        raise ValueError(f"{folder}: exists and is not a comparison; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"{folder}: another comparison is running in it; choose another --out"
    with exclusive_lock(folder / LOCK, busy):
        yield


def is_comparison(folder: Path) -> bool:
    """Whether `compare` may write to a folder: it is empty, or `compare` wrote to it before."""
    if not folder.is_dir():
        return False
    if not {x.name for x in folder.iterdir()} - {LOCK}:
        return True
    try:
        return {"settings", "runs", "rows"} <= set(json.loads((folder / RESULTS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return False


def finished_runs(
    folder: Path, plans: Mapping[str, MethodPlan], keys: Sequence[Key]
) -> dict[Key, dict[str, Any]]:
    """The finished runs of a folder that belong to a comparison.

    Args:
        folder: of the comparison.
        plans: by method, the settings and options that its runs must have.
        keys: the runs of the comparison.

    Returns:
        The content of result.json without settings, by run, for the runs in `keys`.

    Raises:
        ValueError: a finished run, also one that is not in `keys`, has other settings.
    """
    done = {}
    for path in sorted(folder.glob(f"*-seed*/{RESULT}")):
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            method, options, settings = run["method"], run["options"], comparable(run.pop("settings"))
            key = method, run["lr"], run["seed"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: not readable; remove {path.parent} to run it again") from error
        plan = plans.get(method) or next(iter(plans.values()))
        expected = {method: plan.options if method in plans else options, **comparable(plan.settings)}
        if lines := differences({**settings, method: options}, expected):
            raise ValueError(
                f"{path.parent} was run with other settings: {'; '.join(lines)}; choose another --out"
            )
        if key in keys:
            done[key] = run
    return done


def comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run, of any version, without the notes and the workers, which change no result.

    Training settings get their current names; those that did not exist yet had the effect of their default,
    but for the temperature, which no run had. The older versions that do not record the kind of device
    trained on a CPU.
    """
    defaults = json.loads(json.dumps(asdict(TrainConfig(device="cpu", precision="float32"))))
    training = defaults | {"calibrate": False} | current_names(settings["training"])
    training = {name: x for name, x in training.items() if name not in ("lr", "seed", "workers")}
    return {name: value for name, value in settings.items() if name != "notes"} | {"training": training}


def remove_unfinished(folder: Path, key: Key) -> None:
    """Remove the folder of an unfinished run, if it exists.

    Raises:
        ValueError: it is the folder of something else.
    """
    if not folder.exists():
        return
    method, lr, seed = key
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    expected = {"method": method, "lr": lr, "seed": seed}
    matches = isinstance(config, dict) and expected.items() <= config.items()
    if not matches and (not folder.is_dir() or {x.name for x in folder.iterdir()} - {ERROR}):
        raise ValueError(
            f"{folder}: is not an unfinished run of {method}, lr {lr:g}, seed {seed}; move it away"
        )
    shutil.rmtree(folder)


def write_results(folder: Path, comparison: Comparison) -> None:
    """Write results.json, results.csv and accuracy.png, each atomically."""
    text = json.dumps(comparison.summary(), indent=2, ensure_ascii=False) + "\n"
    atomic_write(folder / RESULTS, text)
    rows = comparison.rows
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(folder / "results.csv", table.getvalue())
    if any(row["seeds"] for row in rows):
        draw_comparison(rows, folder / "accuracy.png")
