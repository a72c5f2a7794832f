"""`compare`: methods and seeds, each trained alone on the same data in the same way; one table of them."""

import inspect
import itertools
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from videossp.classifier import Classifier
from videossp.comparison.results import RESULTS, Comparison, write
from videossp.comparison.worker import ERROR, RESULT, run_child
from videossp.data.datasets import VideoDataset, read_data
from videossp.methods import METHODS, default_lr
from videossp.system.files import exclusive_lock
from videossp.system.process import give_back_memory
from videossp.training.config import TrainConfig
from videossp.training.plan import make_plan
from videossp.training.settings import arguments_of, differences, fingerprint

LOCK = ".lock"

Key = tuple[str, float, int]  # a run: method, learning rate, seed


def compare(
    data: str | Path | VideoDataset,
    methods: Sequence[str],
    seeds: Sequence[int],
    config: TrainConfig | None = None,
    *,
    out: str | Path,
    backbone: str,
    lrs: Sequence[float] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    progress: bool = False,
    **create: Any,
) -> Comparison:
    """Train every method with every seed, one after the other, each in a process of its own.

    So the peak memory is that of one run, and a run that fails, even if it is killed, takes no other along.
    Of several learning rates each method is run at all of them with the first seed, and with the others at
    the one with the least loss on validation (`Comparison.lr_of`).

    Args:
        data: a data set that `read_data` gave, or its folder or annotation file. Accuracy is that on its
            test split; without one, on the validation split.
        methods: names of `methods.METHODS`, or several of them joined by +.
        seeds: of the classifier and of the training.
        config: how to train; its seed does not matter.
        lrs: learning rates to choose from; none: that of config, else the default of each method.
        out: folder for METHOD-lrX-seedN, a run folder each, results.json, results.csv and accuracy.png, all
            written anew after every run. What is finished in it is not run again.
        backbone: see `Classifier.create`.
        options: by method, what `Classifier.create` takes for it.
        progress: messages and bars on stderr.
        **form: further arguments of `Classifier.create`: weights, frames, size, ...

    Raises:
        ValueError: methods, seeds, rates or options that cannot be, or runs with other settings in `out`.
        DataError: the data cannot be used.
        WeightsError: the weights of the backbone cannot be.
    """
    config = config or TrainConfig()
    lrs = list(lrs) or ([] if config.lr is None else [config.lr])
    samples = data if isinstance(data, VideoDataset) else read_data(data)
    jobs, notes, usual = plan(samples, methods, seeds, lrs, config, backbone, options or {}, create)
    rates = {method: lrs or [usual[method]] for method in methods}
    settings = jobs[methods[0]]["settings"]
    tries = range(len(lrs) or 1)
    keys = [(method, rates[method][i], seed) for seed in seeds for i in tries for method in methods]

    def say(line: str) -> None:
        if progress:
            print(line, file=sys.stderr, flush=True)

    for note in dict.fromkeys(notes):
        say(note)
    folder = Path(out)
    with claim(folder):
        done = finished(folder, jobs, keys)
        places = {key: folder / "{}-lr{}-seed{}".format(*key) for key in keys if key not in done}
        for key, place in places.items():
            clear(place, *key)

        def so_far() -> Comparison:
            return Comparison(tuple(methods), tuple(seeds), settings, [done[x] for x in keys if x in done])

        def order() -> Iterator[Key]:
            # By rate and seed first: a comparison that is stopped has something to say of every method.
            yield from ((method, rates[method][i], seeds[0]) for i in tries for method in methods)
            for seed, method in itertools.product(seeds[1:], methods):
                yield method, so_far().lr_of(method) or rates[method][0], seed

        write(folder, so_far())
        count = len(methods) * (len(tries) + len(seeds) - 1)
        for number, key in enumerate(order(), 1):
            method, lr, seed = key
            title = f"run {number}/{count}, {method}, lr {lr:g}, seed {seed}"
            if key in done:
                say(f"{title}: finished before")
                continue
            say(title)
            own = {"lr": lr, "seed": seed, "folder": str(places[key]), "progress": progress}
            run = done[key] = run_child(jobs[method] | own)
            write(folder, so_far())
            say(f"{title}: " + (f"top-1 {100 * run['top1']:.1f} %" if run["error"] is None else run["error"]))
    return so_far()


def plan(
    samples: VideoDataset,
    methods: Sequence[str],
    seeds: Sequence[int],
    lrs: Sequence[float],
    config: TrainConfig,
    backbone: str,
    options: Mapping[str, Mapping[str, Any]],
    create: Mapping[str, Any],
) -> tuple[dict[str, dict[str, Any]], list[str], dict[str, float]]:
    """By method, the settings and options of its runs; notes on the backbone; default learning rates.

    Every classifier is made once, so that what cannot be is said before anything runs.
    """
    for name, values in (("methods", methods), ("seeds", seeds), ("learning rates", lrs or [0.0])):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name}: at least one is needed, and each once, got {list(values)}")
    if odd := [name for name in options if name not in methods]:
        raise ValueError(f"options of {odd[0]} are given, but what trains is {', '.join(methods)}")
    notes: list[str] = []
    jobs, usual = {}, {}
    for method in methods:
        given = options.get(method, {})
        classifier = Classifier.create(backbone, classes=samples.classes, method=method, **create, **given)
        usual[method] = default_lr(method, classifier.backbone.config)
        for seed, lr in itertools.product(seeds, lrs or [usual[method]]):
            planned = make_plan(samples, samples.classes, replace(config, seed=seed, lr=lr))
            notes = [*planned.warnings, *planned.notes]
        settings = {
            "data": dict(samples.origin),
            "videos": {split: len(members) for split, members in samples.splits.items()},
            "annotation": {split: fingerprint(members) for split, members in samples.splits.items()},
            "notes": notes.copy(),
            "evaluated_on": "test" if samples.splits.get("test") else "val",
            "classifier": arguments_of(classifier),
            "backbone_sha256": None if classifier.source.random else classifier.sha256,
            "training": {name: value for name, value in asdict(config).items() if name not in ("lr", "seed")},
        }
        job = {"settings": settings, "method": method, "options": resolved(method, given)}
        jobs[method] = json.loads(json.dumps(job))  # tuples become lists, as when they are read again
    notes += classifier.notes
    del classifier
    give_back_memory()
    return jobs, notes, usual


def resolved(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as `Classifier.create` takes them, with the defaults of those that are not given."""

    def whole(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        signature = list(inspect.signature(METHODS[name]).parameters.values())[1:]
        return {x.name: x.default for x in signature} | dict(given)

    names = method.split("+")
    return whole(method, options) if len(names) == 1 else {x: whole(x, options.get(x, {})) for x in names}


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Make the folder of a comparison, or take an earlier one, against other processes as well."""
    if folder.exists() and not is_comparison(folder):
        raise ValueError(f"{folder}: exists and is not a comparison; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(
        folder / LOCK, f"{folder}: another comparison is running in it; choose another --out"
    ):
        yield


def is_comparison(folder: Path) -> bool:
    """Whether `compare` may write here: an empty folder, or one it has written to."""
    if not folder.is_dir():
        return False
    if not {x.name for x in folder.iterdir()} - {LOCK}:
        return True
    try:
        return {"settings", "runs", "rows"} <= set(json.loads((folder / RESULTS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return False


def finished(
    folder: Path, jobs: Mapping[str, Mapping[str, Any]], keys: Sequence[Key]
) -> dict[Key, dict[str, Any]]:
    """Those of some runs that are finished.

    Raises:
        ValueError: a finished run in the folder, of whatever method, had other settings.
    """
    done = {}
    for path in sorted(folder.glob(f"*-seed*/{RESULT}")):
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            method, settings, options = run["method"], run.pop("settings"), run["options"]
            key = method, run["lr"], run["seed"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: not readable; remove {path.parent} to run it again") from error
        job = jobs.get(method, {"settings": next(iter(jobs.values()))["settings"], "options": options})
        # Notes follow from the settings, and their words may change.
        before = {**settings, method: options, "notes": []}
        odd = differences(before, {**job["settings"], method: job["options"], "notes": []})
        if odd:
            raise ValueError(
                f"{path.parent} was run with other settings: {'; '.join(odd)}; choose another --out"
            )
        if key in keys:
            done[key] = run
    return done


def clear(folder: Path, method: str, lr: float, seed: int) -> None:
    """Remove what an unfinished run left; anything else in its place is an error."""
    if not folder.exists():
        return
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    wanted = {"method": method, "lr": lr, "seed": seed}
    own = isinstance(config, dict) and wanted.items() <= config.items()
    if not own and (not folder.is_dir() or {x.name for x in folder.iterdir()} - {ERROR}):
        raise ValueError(
            f"{folder}: is not an unfinished run of {method}, lr {lr:g}, seed {seed}; move it away"
        )
    shutil.rmtree(folder)
