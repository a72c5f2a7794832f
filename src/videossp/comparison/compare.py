"""`compare`: train methods with several seeds on the same data with the same settings."""

import hashlib
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch

from videossp.classifier import Classifier
from videossp.comparison.explain_runs import explain_runs
from videossp.comparison.folder import (
    Key,
    MethodPlan,
    finished_runs,
    lock_folder,
    remove_unfinished,
    write_results,
)
from videossp.comparison.results import Comparison
from videossp.comparison.worker import run_child
from videossp.data.datasets import VideoDataset, read_data
from videossp.errors import DataError
from videossp.methods import default_lr, resolve_options
from videossp.methods.registry import registrations
from videossp.model.device import choose_device
from videossp.system.printable import printable
from videossp.system.process import give_back_memory
from videossp.system.warn import warn
from videossp.training.config import TrainConfig
from videossp.training.plan import make_plan, resolve
from videossp.training.settings import arguments_of, fingerprint


def compare(
    data: str | Path | VideoDataset,
    methods: str | Sequence[str],
    seeds: int | Sequence[int],
    config: TrainConfig | None = None,
    *,
    out: str | Path,
    backbone: str,
    lrs: float | Sequence[float] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    explain: int = 0,
    progress: bool = False,
    **create: Any,
) -> Comparison:
    """Train every method with every seed, one run after the other, each in its own process.

    The peak memory is therefore that of one run, and a run that fails, or is killed, does not end the others.
    With several learning rates, each method is trained at all of them with the first seed, and with the other
    seeds at the rate with the lowest validation loss (`Comparison.lr_of`).

    Args:
        data: a data set, or its folder or annotation file, which is read once, before the first run. Accuracy
            is measured on the test split, or on the validation split if there is no test split.
        methods: names of methods, or chains as "ssp+lora"; one or several.
        seeds: of the classifier and of the training; one or several.
        config: settings of all runs, except their seed. Device and precision are resolved once, for all runs.
        lrs: learning rates to select from, one or several, the same for all methods. Default: the rate of
            `config`, or, if it has none, the default rate of each method for the backbone.
        out: folder with a run folder METHOD-lrX-seedN per run, results.json, results.csv and accuracy.png.
            The last three are written again after every run. Runs that are finished in it are not repeated.
        backbone: see `Classifier.create`.
        options: by method, the options that `Classifier.create` takes for it.
        explain: number of evaluated videos to explain under every method, in explain.html of `out`.
        progress: print messages and progress bars on stderr.
        **create: further arguments of `Classifier.create`: weights, frames, size, ...

    Returns:
        All runs of these methods, rates and seeds, those that failed included.

    Raises:
        ValueError: invalid methods, seeds, rates, options or device; or `out` has runs with other settings.
        DataError: the data cannot be used.
        WeightsError: the weights of the backbone cannot be used.
    """
    config = config or TrainConfig()
    if explain < 0:
        raise ValueError(f"explain must be at least 0, got {explain}")
    names, numbers, rates = as_tuples(methods, seeds, lrs, config)
    device = choose_device(config.device)
    samples = data if isinstance(data, VideoDataset) else read_data(data)
    plans, notes = plan_methods(
        samples, names, numbers, rates, config, device, backbone, options or {}, create
    )
    tries = range(len(plans[names[0]].lrs))
    keys = [(method, plans[method].lrs[i], seed) for seed in numbers for i in tries for method in names]

    def report(line: str) -> None:
        if progress:
            print(printable(line), file=sys.stderr, flush=True)

    folder = Path(out)
    with lock_folder(folder):
        done = finished_runs(folder, plans, keys)
        for note in dict.fromkeys(notes):  # not before a folder that is refused: that is one line
            report(note)
        paths = {key: folder / "{}-lr{}-seed{}".format(*key) for key in keys if key not in done}
        for key, path in paths.items():
            remove_unfinished(path, key)

        def so_far() -> Comparison:
            runs = [done[key] for key in keys if key in done]
            return Comparison(names, numbers, plans[names[0]].settings, runs)

        def order() -> Iterator[Key]:
            # Run all methods at one rate or seed before the next, so that an interrupted comparison covers
            # every method.
            yield from ((method, plans[method].lrs[i], numbers[0]) for i in tries for method in names)
            for seed, method in itertools.product(numbers[1:], names):
                yield method, so_far().lr_of(method) or plans[method].lrs[0], seed

        write_results(folder, so_far())
        count = len(names) * (len(tries) + len(numbers) - 1)
        for number, key in enumerate(order(), 1):
            method, lr, seed = key
            title = f"run {number}/{count}, {method}, lr {lr:g}, seed {seed}"
            if key in done:
                report(f"{title}: already finished")
                continue
            report(title)
            run = done[key] = run_child(plans[method], samples, lr, seed, paths[key], progress=progress)
            write_results(folder, so_far())
            report(f"{title}: " + (run["error"] or f"top-1 {100 * run['top1']:.1f} %"))
    if explain:
        explain_comparison(folder, so_far(), samples, config, explain, progress=progress)
    return so_far()


def explain_comparison(
    folder: Path,
    comparison: Comparison,
    samples: VideoDataset,
    config: TrainConfig,
    count: int,
    *,
    progress: bool = False,
) -> Path | None:
    """Write explain.html into the folder of a comparison, see `explain_runs`.

    Args:
        folder, samples, config: of the comparison, as in `compare`.
        comparison: its results.
        count: videos to explain.
        progress: show a bar on stderr if that is a terminal.
    """
    # Without a test split, the validation videos of the first seed were evaluated; the rate plays no part.
    plan = make_plan(samples, samples.classes, replace(config, seed=comparison.seeds[0], lr=1.0))
    evaluated = samples.splits.get("test") or plan.validation
    device = str(choose_device(config.device))
    with lock_folder(folder):
        return explain_runs(folder, comparison, evaluated, count, device, progress=progress)


def as_tuples(
    methods: str | Sequence[str],
    seeds: int | Sequence[int],
    lrs: float | Sequence[float],
    config: TrainConfig,
) -> tuple[tuple[str, ...], tuple[int, ...], tuple[float, ...]]:
    """Methods, seeds and rates as tuples: one value is a tuple of one, not the letters of a name.

    Raises:
        ValueError: a seed or a rate that `TrainConfig` does not accept.
    """
    names = (methods,) if isinstance(methods, str) else tuple(methods)
    numbers: tuple[Any, ...] = (seeds,) if isinstance(seeds, Integral) else tuple(seeds)  # type: ignore[arg-type]
    rates: tuple[Any, ...] = (lrs,) if isinstance(lrs, Real) else tuple(lrs)  # type: ignore[arg-type]
    for seed in numbers:
        replace(config, seed=seed)
    for lr in rates:
        replace(config, lr=lr)
    return names, tuple(map(int, numbers)), tuple(map(float, rates))


def plan_methods(
    samples: VideoDataset,
    methods: Sequence[str],
    seeds: Sequence[int],
    lrs: Sequence[float],
    config: TrainConfig,
    device: torch.device,
    backbone: str,
    options: Mapping[str, Mapping[str, Any]],
    create: Mapping[str, Any],
) -> tuple[dict[str, MethodPlan], list[str]]:
    """Plan the runs of each method.

    Each classifier is created once, so that invalid arguments are reported before any run starts. Warnings
    about plan and backbone are issued here; the runs do not repeat them.

    Returns:
        (plan by method, notes on plan and backbone).
    """
    for name, values in (("methods", methods), ("seeds", seeds), ("learning rates", lrs)):
        if (not values and name != "learning rates") or len(set(values)) < len(values):
            raise ValueError(f"{name}: at least one is needed, without repetitions, got {list(values)}")
    if unused := [name for name in options if name not in methods]:
        raise ValueError(f"options of {unused[0]} are given, but the methods are {', '.join(methods)}")
    plans = {}
    for method in methods:
        given = options.get(method, {})
        classifier = Classifier.create(backbone, classes=samples.classes, method=method, **create, **given)
        sizes = classifier.backbone.config
        rates = tuple(lrs) or (default_lr(method, sizes) if config.lr is None else config.lr,)
        for seed, lr in itertools.product(seeds, rates):
            plan = make_plan(samples, samples.classes, replace(config, seed=seed, lr=lr))
        if not plan.validation and len(rates) > 1:
            raise ValueError(
                "val_fraction 0 leaves no validation to select from several learning rates: give one"
            )
        if not plan.validation and not samples.splits.get("test"):
            raise DataError(
                "val_fraction 0 leaves no videos to measure accuracy on: add a test split, or hold some out"
            )
        shared = asdict(replace(resolve(config, classifier, device), device=device.type))
        training = {name: value for name, value in shared.items() if name not in ("lr", "seed")}
        settings = {
            "data": dict(samples.origin) or {"sha256": digest(samples)},
            "videos": {split: len(members) for split, members in samples.splits.items()},
            "annotation": {split: fingerprint(members) for split, members in samples.splits.items()},
            "notes": [*plan.warnings, *plan.notes],
            "evaluated_on": "test" if samples.splits.get("test") else "val",
            "classifier": arguments_of(classifier),
            "backbone_sha256": None if classifier.source.random else classifier.sha256,
            "training": training,
        }
        # Tuples become lists, as in a file.
        settings, complete = json.loads(json.dumps([settings, resolve_options(method, sizes, given)]))
        plans[method] = MethodPlan(method, complete, settings, rates, str(device), registrations(method))
    for text in plan.warnings:
        warn(text)
    notes = [*plan.notes, *classifier.notes]
    del classifier
    give_back_memory()
    return plans, notes


def digest(samples: VideoDataset) -> str:
    """sha256 of classes and files, to recognise a data set that was not read from disk."""
    files = {split: [str(x.path) for x in members] for split, members in samples.splits.items()}
    return hashlib.sha256(json.dumps([samples.classes, files]).encode()).hexdigest()
