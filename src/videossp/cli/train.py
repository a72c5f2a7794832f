"""`videossp train` and `videossp compare`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from videossp.cli.flags import FORM, add_training, chosen, data_of, listed, options_of, out_folder
from videossp.cli.output import INTERRUPTED, say, show

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def train(parser: "ArgumentParser") -> "Callable[[Namespace], int]":
    """teach a backbone the classes of a folder of videos; leaves a run folder with an adapter"""
    from videossp.classifier import Classifier
    from videossp.methods import METHODS
    from videossp.training.plan import TrainConfig, make_plan, plan_lines, summary
    from videossp.training.recipe import expected_samples, surprises
    from videossp.training.run_folder import facts_of
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
            plan = make_plan(samples, classifier.classes, config)
            return show(args, summary(classifier, plan, config), plan_lines(classifier, plan, config))
        with out_folder(args.out, f"{Path(samples.origin['data']).name}-{args.method}") as out:
            try:
                resume = args.resume is not None
                result = run_training(classifier, samples, config, out=out, resume=resume, progress=True)
            except KeyboardInterrupt:
                best = f", the best adapter so far is {out / 'adapter'}" if (out / "adapter").exists() else ""
                say(f"interrupted; videossp train --resume {out} goes on{best}")
                return INTERRUPTED
        facts = {"run": str(out), **result.best, "failed": result.failures, "total_seconds": result.seconds}
        if result.data_wait > 0.2 and not config.workers:
            say(f"{100 * result.data_wait:.0f} % of the time went into decoding; --workers 1 decodes ahead")
        table = facts_of(classifier, result) | {"run folder": f"{out}, adapter {out / 'adapter'}"}
        return show(args, facts, [f"{name:20}{value}" for name, value in table.items()])

    return run


def compare(parser: "ArgumentParser") -> "Callable[[Namespace], int]":
    """train several methods with several seeds on the same data in the same way, and table them"""
    from videossp.comparison.compare import compare as run_comparison
    from videossp.comparison.results import RESULTS
    from videossp.methods import METHODS
    from videossp.training.plan import TrainConfig

    add_training(
        parser,
        out="folder to write (default: the next free runs/compare-DATA-N); "
        "an earlier comparison goes on, what is finished in it is not run again",
    )
    parser.add_argument(
        "--methods",
        type=list[str] | str,
        required=True,
        help=f"some of {', '.join(METHODS)}, separated by commas; several joined by + are one",
    )
    parser.add_argument(
        "--seeds", type=list[int] | int | str, default="0,1,2", help="whole numbers, separated by commas"
    )
    parser.add_argument(
        "--lr",
        type=list[float] | float | str,
        default=TrainConfig.lr,
        help="peak learning rate of AdamW; of several, separated by commas, each method takes the one that "
        "has the least loss on validation with the first seed",
    )
    parser.add_class_arguments(TrainConfig, skip={"lr", "seed"})

    def run(args: "Namespace") -> int:
        methods, seeds = listed(args.methods), listed(args.seeds)
        if not all(seed.isdecimal() for seed in seeds):
            raise ValueError(f"--seeds must be whole numbers, at least 0, got {', '.join(seeds)}")
        options = options_of(parser, args, methods)
        try:
            lrs = [float(lr) for lr in listed(args.lr)]
        except ValueError:
            lrs = []
        if not lrs:
            raise ValueError(f"--lr must be numbers, separated by commas, got {args.lr!r}")
        config = TrainConfig(**chosen(args, TrainConfig.__dataclass_fields__.keys() - {"lr", "seed"}))
        samples = data_of(args)
        with out_folder(args.out, f"compare-{Path(samples.origin['data']).name}") as out:
            try:
                result = run_comparison(
                    samples,
                    methods,
                    [int(seed) for seed in seeds],
                    config,
                    out=out,
                    backbone=args.backbone,
                    lrs=lrs,
                    options=options,
                    progress=True,
                    **chosen(args, FORM),
                )
            except KeyboardInterrupt:
                kept = (out / RESULTS).exists()
                say(
                    "interrupted; "
                    + (f"the same command with --out {out} goes on" if kept else "nothing was run")
                )
                return INTERRUPTED
        show(args, result.summary(), [*result.table(), f"figures and picture in {out}"])
        return 1 if result.failed else 0

    return run
