"""What each verb does: its flags, one function call, what it prints; heavy imports inside."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from videossp.flags import FORM, add_training, chosen, listed, options_of, out_folder

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

DATA, INTERRUPTED = 3, 130  # exit codes that a verb gives without an error


def train(parser: "ArgumentParser") -> "Callable[[Namespace], int]":
    """teach a backbone the classes of a folder of videos; leaves a run folder with an adapter"""
    from videossp.classifier import Classifier
    from videossp.datasets import read_folder
    from videossp.methods import METHODS
    from videossp.train import TrainConfig
    from videossp.train import train as run_training

    add_training(parser, out="run folder to write (default: the next free runs/DATA-METHOD-N)")
    parser.add_argument(
        "--method", type=str, default="ssp", help=f"one of {', '.join(METHODS)}, or several joined by +"
    )
    parser.add_class_arguments(TrainConfig)

    def run(args: "Namespace") -> int:
        options = options_of(parser, args, [args.method])[args.method]
        config = TrainConfig(**chosen(args, TrainConfig.__dataclass_fields__))
        samples = read_folder(args.data)
        classifier = Classifier.create(
            args.backbone,
            classes=samples.classes,
            method=args.method,
            seed=args.seed,
            **chosen(args, FORM),
            **options,
        )
        for note in classifier.notes:
            say(note)
        if classifier.source.random:
            say(f"{args.backbone}: no --weights given: RANDOM weights, good for trying things out only")
        with out_folder(args.out, f"{Path(args.data).resolve().name}-{args.method}") as out:
            try:
                result = run_training(classifier, args.data, config, out=out, progress=True)
            except KeyboardInterrupt:
                kept = (out / "adapter").exists()
                say(
                    "interrupted; "
                    + (f"the best adapter so far is in {out / 'adapter'}" if kept else "no epoch ended")
                )
                return INTERRUPTED
        summary = {"run": str(out), **result.best, "failed": result.failures, "total_seconds": result.seconds}
        lines = [
            f"best epoch {result.best['epoch']}: validation top-1 {100 * result.best['val_top1']:.1f} %, "
            f"{result.seconds:.0f} s in all",
            f"run folder {out}, adapter {out / 'adapter'}",
        ]
        return show(args, summary, lines)

    return run


def compare(parser: "ArgumentParser") -> "Callable[[Namespace], int]":
    """train several methods with several seeds on the same data in the same way, and table them"""
    from videossp.compare import compare as run_comparison
    from videossp.comparison import RESULTS
    from videossp.methods import METHODS
    from videossp.train import TrainConfig

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
    parser.add_class_arguments(TrainConfig, skip={"seed"})

    def run(args: "Namespace") -> int:
        methods, seeds = listed(args.methods), listed(args.seeds)
        if not all(seed.isdecimal() for seed in seeds):
            raise ValueError(f"--seeds must be whole numbers, at least 0, got {', '.join(seeds)}")
        options = options_of(parser, args, methods)
        config = TrainConfig(**chosen(args, TrainConfig.__dataclass_fields__.keys() - {"seed"}))
        with out_folder(args.out, f"compare-{Path(args.data).resolve().name}") as out:
            try:
                result = run_comparison(
                    args.data,
                    methods,
                    [int(seed) for seed in seeds],
                    config,
                    out=out,
                    backbone=args.backbone,
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


def evaluate(parser: "ArgumentParser") -> "Callable[[Namespace], int]":
    """accuracy of an adapter on labelled videos"""
    from videossp.classifier import Precision, load
    from videossp.datasets import read_folder
    from videossp.evaluate import evaluate as run_evaluation
    from videossp.evaluate import relabel
    from videossp.report import draw_confusion
    from videossp.video import DataError

    parser.add_argument("adapter", type=str, help="adapter or run folder")
    parser.add_argument("data", type=str, help="folder of classes, with or without split folders")
    parser.add_argument(
        "--split", type=str, help="train, val or test (default: test, or all of an unsplit folder)"
    )
    parser.add_argument("--backbone", type=str, help="weights of the backbone, if they have moved")
    parser.add_function_arguments(run_evaluation, skip={"classifier", "samples", "progress"})
    parser.add_argument("--precision", type=Precision, default="float32", help="of the matrix products")
    parser.add_argument("--confusion", type=str, help="write the confusion matrix to this PNG")

    def run(args: "Namespace") -> int:
        classifier = load(args.adapter, backbone=args.backbone).to_precision(args.precision)
        data = read_folder(args.data)
        split = args.split or ("test" if list(data.splits) != ["train"] else "train")
        picture = Path(args.confusion) if args.confusion else None
        if picture and (picture.suffix != ".png" or not picture.parent.is_dir()):
            raise ValueError(f"--confusion {picture}: must be a .png in a folder that exists")
        if split not in data.splits:
            raise DataError(f"{args.data}: no split {split}; it has {', '.join(data.splits)}")
        samples = relabel(data.splits[split], data.classes, classifier.classes)
        result = run_evaluation(
            classifier,
            samples,
            segments=args.segments,
            crops=args.crops,
            workers=args.workers,
            on_error=args.on_error,
            progress=True,
        )
        if split == "train":
            say("these are videos of the split train: the adapter may have been trained on them")
        if picture:
            draw_confusion(result, picture)
        summary = {
            "split": split,
            **result.summary(),
            "failures": result.failures,
            "classes": result.classes,
            "confusion": result.confusion.tolist(),
        }
        top5 = "" if summary["top5"] is None else f"top-5 {100 * summary['top5']:.1f} %, "
        lines = [f"could not be decoded, counted as wrong: {reason}" for reason in result.failures.values()]
        lines += [
            f"top-1 {100 * summary['top1']:.1f} %, {top5}mean class accuracy "
            f"{100 * summary['mean_class_accuracy']:.1f} % on {len(samples)} videos of {split}, "
            f"views (segments x crops) {summary['views']}",
            *result.confusion_table(),
        ]
        return show(args, summary, lines)

    return run


def predict(parser: "ArgumentParser") -> "Callable[[Namespace], int]":
    """most probable classes of video files and folders"""
    from videossp.classifier import Precision, load
    from videossp.predict import predict as run_prediction

    parser.add_argument("adapter", type=str, help="adapter or run folder")
    parser.add_argument("paths", type=str, nargs="+", help="videos, or folders that hold some")
    parser.add_argument("--top", type=int, default=5, help="classes to print per video")
    parser.add_argument("--segments", type=int, default=1, help="clips per video")
    parser.add_argument("--crops", type=int, default=1, help="crops per clip")
    parser.add_argument("--backbone", type=str, help="weights of the backbone, if they have moved")
    parser.add_argument("--precision", type=Precision, default="float32", help="of the matrix products")

    def run(args: "Namespace") -> int:
        classifier = load(args.adapter, backbone=args.backbone).to_precision(args.precision)
        results = run_prediction(classifier, args.paths, segments=args.segments, crops=args.crops)
        lines, summary = [], []
        for result in results:
            ranked = list(result.probabilities.items())[: args.top]
            summary.append(
                {
                    "path": result.path,
                    "error": result.error,
                    "top": [{"class": name, "probability": p} for name, p in ranked],
                }
            )
            lines.append(result.path if result.error is None else f"{result.path}\n  FAILED {result.error}")
            lines += [f"  {100 * p:5.1f} %  {name}" for name, p in ranked]
        show(args, summary, lines)
        failed = sum(result.error is not None for result in results)
        if failed:
            say(f"{failed} of {len(results)} videos could not be decoded")
        return DATA if failed else 0

    return run


def info(parser: "ArgumentParser") -> "Callable[[Namespace], int]":
    """versions, methods, and which kernel scans on this machine"""
    import torch

    from videossp.adapter import versions
    from videossp.methods import METHODS
    from videossp.ops.choice import scan_kernel
    from videossp.videomamba import SPECS

    def run(args: "Namespace") -> int:
        devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
        facts: dict[str, Any] = {
            **versions(),
            "threads": torch.get_num_threads(),
            **{f"scan on {x}": scan_kernel(torch.device(x), torch.float32) for x in devices},
            "backbones": ", ".join(SPECS),
            "methods": ", ".join(METHODS),
        }
        return show(args, facts, [f"{name:12} {value}" for name, value in facts.items()])

    return run


def bench(parser: "ArgumentParser") -> "Callable[[Namespace], int]":
    """how fast this machine is: the scan, a forward pass, a training step, on one clip with SSP"""
    import torch

    from videossp.bench import show as seconds
    from videossp.bench import summary
    from videossp.videomamba import SPECS

    parser.add_argument("--backbone", type=Literal[tuple(SPECS)], default="videomamba_tiny", help="its size")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is taken")

    def run(args: "Namespace") -> int:
        if args.rounds < 1:
            raise ValueError("--rounds must be at least 1")
        facts = summary(args.backbone, args.rounds)
        lines = [f"{args.backbone} + ssp, random weights, {torch.get_num_threads()} threads"]
        for name, value in facts.items():
            ratio = " over " in name or "GB" in name
            lines.append(f"{name:38}{value:9.2f}" if ratio else f"{name:38}{seconds(value):>12}")
        return show(args, {"backbone": args.backbone, "threads": torch.get_num_threads(), **facts}, lines)

    return run


def show(args: "Namespace", summary: Any, lines: Sequence[str]) -> int:
    """Print a result on stdout, as text or as JSON."""
    print(json.dumps(summary, ensure_ascii=False) if args.json else "\n".join(lines))
    return 0


def say(line: str) -> None:
    """A message on stderr."""
    print(f"videossp: {line}", file=sys.stderr)


VERBS = {
    "train": train,
    "compare": compare,
    "eval": evaluate,
    "predict": predict,
    "info": info,
    "bench": bench,
}
