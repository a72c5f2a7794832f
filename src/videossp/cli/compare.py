"""`videossp compare`."""

import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from videossp.cli.arguments import Arguments, listed
from videossp.cli.flags import CREATING, add_training, chosen, data_of, options_of
from videossp.cli.options import add_option, group_of
from videossp.cli.output import INTERRUPTED, print_message, print_result
from videossp.cli.written import out_folder

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

# Settings in recipes and in the config.yaml of a run that only `videossp train` has.
TRAIN_ONLY = ("method", "seed", "expect")


def compare(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Train several methods with several seeds on the same data and print one table."""
    from videossp.comparison.compare import compare as run_comparison
    from videossp.comparison.compare import explain_comparison
    from videossp.comparison.folder import RESULTS
    from videossp.methods import method_names
    from videossp.model.device import choose_device
    from videossp.training.config import LARGEST_SEED, TrainConfig

    if unused := [name for name in TRAIN_ONLY if name in given.settings]:
        print_message(f"not used of the config file, because only train has them: {', '.join(unused)}")
        for name in unused:
            del given.settings[name]
    methods = given.methods() if given.value("methods") is not None else []
    add_training(
        parser,
        given,
        methods,
        out="folder to write, or an earlier comparison to resume [runs/compare-DATA-N]",
        skip={"lr", "seed"},
    )
    group = group_of(parser, "method")
    add_option(
        group,
        "methods",
        list[str] | str,
        f"separated by commas: {', '.join(method_names())}; several joined by + are one method",
    )
    add_option(
        group, "seeds", list[int] | int | str, "seeds of each method, separated by commas", default="0,1,2"
    )
    add_option(
        group_of(parser, "optimisation"),
        "lr",
        list[float] | float | str | None,
        "peak learning rate; of several, separated by commas, each method takes the one with the lowest "
        "validation loss of the first seed",
        shown="the default of each method",
    )
    text = "videos to explain under every method, in explain.html; those on which methods disagree first"
    add_option(group_of(parser, "output"), "explain", int, text, default=0)
    parser.epilog = (
        "Defaults are in brackets. Options of methods: videossp compare --methods ssp,lora --help.\n"
        "In a config file, names have underscores, and options of methods are nested: ssp: {prompts: 3}.\n"
        "Recipes and the config.yaml of a run are such files; their method, seed and expect are not used."
    )

    def run(args: "Namespace") -> int:
        seeds = listed(args.seeds)
        if not all(seed.isdecimal() and int(seed) <= LARGEST_SEED for seed in seeds):
            raise ValueError(
                f"--seeds must be whole numbers from 0 to {LARGEST_SEED}, got {', '.join(seeds)}"
            )
        if args.explain < 0:
            raise ValueError(f"--explain must be at least 0, got {args.explain}")
        choose_device(args.device)  # refuses one that is not there before anything is read
        options = options_of(args, methods)
        try:
            lrs = [] if args.lr is None else [float(lr) for lr in listed(args.lr)]
        except ValueError:
            lrs = []
        if not all(map(math.isfinite, lrs)):
            raise ValueError(f"--lr must be finite, got {args.lr!r}")
        if not lrs and args.lr is not None:
            raise ValueError(f"--lr must be numbers, separated by commas, got {args.lr!r}")
        names = {x.name for x in fields(TrainConfig)} - {"lr", "seed"}
        config = TrainConfig(**chosen(args, names))
        samples = data_of(args)
        with out_folder(args.out, f"compare-{Path(samples.origin['data']).name}") as out:
            try:
                result = run_comparison(
                    samples,
                    methods,
                    [int(seed) for seed in seeds],
                    config,
                    out=out,
                    lrs=lrs,
                    options=options,
                    progress=True,
                    **chosen(args, CREATING),
                )
            except KeyboardInterrupt:
                started = (out / RESULTS).exists()
                print_message(
                    f"interrupted; the same command with --out {out} resumes"
                    if started
                    else "interrupted; nothing was run"
                )
                return INTERRUPTED
        print_result(
            args, result.summary(), [*result.table(), f"{out} has results.json, results.csv and accuracy.png"]
        )
        if args.explain:  # after the results, which must not be lost
            page = explain_comparison(out, result, samples, config, args.explain, progress=True)
            print_message(f"{page}: written" if page else "no run is finished that could be explained")
        return 1 if result.failed else 0

    return run
