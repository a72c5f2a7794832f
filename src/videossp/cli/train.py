"""`videossp train`."""

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from videossp.cli.arguments import METHOD, Arguments
from videossp.cli.flags import CREATING, add_training, chosen, data_of, options_of
from videossp.cli.options import add_option, group_of
from videossp.cli.output import INTERRUPTED, print_message, print_result
from videossp.cli.written import out_folder

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def train(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Train a prompt (or another method) on a folder of videos and write a run folder."""
    from videossp.classifier import Classifier
    from videossp.comparison.intervals import wilson
    from videossp.methods import method_names
    from videossp.model.device import choose_device
    from videossp.training.config import TrainConfig
    from videossp.training.distributed import leave_processes
    from videossp.training.plan import caches_features, make_plan, resolve
    from videossp.training.recipe import deviations, expected_samples
    from videossp.training.summaries import plan_lines, plan_summary, run_summary
    from videossp.training.train import train as run_training

    add_training(parser, given, given.methods(), out="run folder to write [runs/DATA-METHOD-N]")
    add_option(
        group_of(parser, "method"),
        "method",
        str,
        f"{', '.join(method_names())}, or several joined by +",
        default=METHOD,
    )
    group = group_of(parser, "validation and checkpoints")
    add_option(group, "resume", str, "resume this run, with its settings")
    add_option(group, "change_device", bool, "resume on another kind of device", default=False)
    group = group_of(parser, "output")
    group.add_argument(
        "--dry_run", action="store_true", help="print the plan and stop; needs no DATA with --expect"
    )
    add_option(group, "expect", dict[str, int | str], "expected classes, train, test, backbone", default={})
    parser.epilog = (
        "Defaults are in brackets. Options of another method: videossp train --method NAME --help.\n"
        "In a config file, names have underscores, and options of methods are nested: ssp: {prompts: 3}."
    )

    def run(args: "Namespace") -> int:
        if args.resume is not None:
            if args.out is not None and Path(args.out).resolve() != Path(args.resume).resolve():
                raise ValueError("--resume writes to the folder of its run: leave out --out")
            args.out = args.resume
        if args.out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError("give --out: without it each of the processes would write another folder")
        device = choose_device(args.device)
        options = options_of(args, [args.method])[args.method]
        config = TrainConfig(**chosen(args, (x.name for x in fields(TrainConfig))))
        without_data = args.dry_run and not (args.dataset or args.data)
        samples = expected_samples(args.expect) if without_data else data_of(args)
        classifier = Classifier.create(
            classes=samples.classes,
            method=args.method,
            seed=args.seed,
            **chosen(args, CREATING),
            **options,
        )
        for note in classifier.notes:
            print_message(note)
        if not without_data:
            for line in deviations(args.expect, samples, classifier):
                print_message(line)
        if args.dry_run:
            config = resolve(config, classifier, device)
            caches_features(config, classifier)
            plan = make_plan(samples, classifier.classes, config)
            lines = [*plan_lines(classifier, plan, config, device), *(f"warning: {x}" for x in plan.warnings)]
            return print_result(args, plan_summary(classifier, plan, config), lines)
        with out_folder(args.out, f"{Path(samples.origin['data']).name}-{args.method}") as out:
            try:
                resume = args.resume is not None
                result = run_training(
                    classifier,
                    samples,
                    config,
                    out=out,
                    resume=resume,
                    change_device=args.change_device,
                    progress=True,
                )
            except KeyboardInterrupt:
                best = f"; the best adapter so far is {out / 'adapter'}" if (out / "adapter").exists() else ""
                print_message(f"interrupted; videossp train --resume {out} resumes{best}")
                return INTERRUPTED
        leave_processes()
        summary = {"run": str(out), **result.best, "failed": result.failures, "total_seconds": result.seconds}
        if result.data_wait > 0.2 and not config.workers and device.type == "cpu":
            print_message(
                f"{100 * result.data_wait:.0f} % of the time was spent on decoding; --workers 1 decodes ahead"
            )
        table = run_summary(classifier, result)
        if result.validation:
            low, high = (100 * x for x in wilson(result.best["val_top1"], len(result.validation.samples)))
            table["95 % interval"] = f"{low:.1f} to {high:.1f} % for top-1 on validation"
        table["run folder"] = f"{out}, adapter {out / 'adapter'}"
        return print_result(args, summary, [f"{name:20}{value}" for name, value in table.items()])

    return run
