"""`videossp train` and `videossp compare`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from videossp.cli.flags import FORM, add_training, chosen, data_of, options_of, out_folder
from videossp.cli.output import INTERRUPTED, say, show

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def train(parser: "ArgumentParser") -> "Callable[[Namespace], int]":
    """teach a backbone the classes of a folder of videos; leaves a run folder with an adapter"""
    from videossp.classifier import Classifier
    from videossp.methods import METHODS
    from videossp.training.config import TrainConfig
    from videossp.training.distributed import leave_processes
    from videossp.training.plan import make_plan, resolve_lr
    from videossp.training.recipe import expected_samples, surprises
    from videossp.training.summaries import plan_lines, plan_summary, run_summary
    from videossp.training.train import train as run_training

    add_training(parser, out="run folder to write (default: the next free runs/DATA-METHOD-N)")
    parser.add_argument(
        "--method", type=str, default="ssp", help=f"one of {', '.join(METHODS)}, or several joined by +"
    )
    parser.add_class_arguments(TrainConfig)
    parser.add_argument(
        "--resume", type=str, help="go on with the run in this folder, as its config.yaml says"
    )
    parser.add_argument(
        "--expect",
        type=dict[str, int | str],
        default={},
        help="what a recipe was published with: classes, train, test (numbers), backbone (file); "
        "what differs is said",
    )
    parser.add_argument(
        "--dry-run",
        "--dry_run",
        action="store_true",
        help="print what would be done, and do nothing; without DATA, on as many videos as --expect says",
    )

    def run(args: "Namespace") -> int:
        if args.resume is not None:
            args.out = args.resume
        if args.out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError("give --out: several processes would each take a folder of their own")
        options = options_of(parser, args, [args.method])[args.method]
        config = TrainConfig(**chosen(args, TrainConfig.__dataclass_fields__))
        bare = args.dry_run and not (args.place or args.data)
        samples = expected_samples(args.expect) if bare else data_of(args)
        classifier = Classifier.create(
            args.backbone,
            classes=samples.classes,
            method=args.method,
            seed=args.seed,
            **chosen(args, FORM),
            **options,
        )
        for note in [*classifier.notes, *([] if bare else surprises(args.expect, samples, classifier))]:
            say(note)
        if args.dry_run:
            config = resolve_lr(config, classifier)
            plan = make_plan(samples, classifier.classes, config)
            lines = [*plan_lines(classifier, plan, config), *(f"warning: {x}" for x in plan.warnings)]
            return show(args, plan_summary(classifier, plan, config), lines)
        with out_folder(args.out, f"{Path(samples.origin['data']).name}-{args.method}") as out:
            try:
                resume = args.resume is not None
                result = run_training(classifier, samples, config, out=out, resume=resume, progress=True)
            except KeyboardInterrupt:
                best = f", the best adapter so far is {out / 'adapter'}" if (out / "adapter").exists() else ""
                say(f"interrupted; videossp train --resume {out} goes on{best}")
                return INTERRUPTED
        leave_processes()
        facts = {"run": str(out), **result.best, "failed": result.failures, "total_seconds": result.seconds}
        if result.data_wait > 0.2 and not config.workers:
            say(f"{100 * result.data_wait:.0f} % of the time went into decoding; --workers 1 decodes ahead")
        table = run_summary(classifier, result) | {"run folder": f"{out}, adapter {out / 'adapter'}"}
        return show(args, facts, [f"{name:20}{value}" for name, value in table.items()])

    return run
