"""`videossp compare`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from videossp.cli.flags import FORM, add_training, chosen, data_of, listed, options_of, out_folder
from videossp.cli.output import INTERRUPTED, say, show

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def compare(parser: "ArgumentParser") -> "Callable[[Namespace], int]":
    """train several methods with several seeds on the same data in the same way, and table them"""
    from videossp.comparison.compare import compare as run_comparison
    from videossp.comparison.results import RESULTS
    from videossp.methods import METHODS
    from videossp.training.config import TrainConfig

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
        type=list[float] | float | str | None,
        help="peak learning rate of AdamW (default: that of each method); of several, separated by commas, "
        "each method takes the one that "
        "has the least loss on validation with the first seed",
    )
    parser.add_class_arguments(TrainConfig, skip={"lr", "seed"})

    def run(args: "Namespace") -> int:
        methods, seeds = listed(args.methods), listed(args.seeds)
        if not all(seed.isdecimal() for seed in seeds):
            raise ValueError(f"--seeds must be whole numbers, at least 0, got {', '.join(seeds)}")
        options = options_of(parser, args, methods)
        try:
            lrs = [] if args.lr is None else [float(lr) for lr in listed(args.lr)]
        except ValueError:
            lrs = []
        if not lrs and args.lr is not None:
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
