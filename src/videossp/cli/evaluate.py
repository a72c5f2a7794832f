"""`videossp eval` and `videossp predict`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from videossp.cli.flags import add_data, data_of, place_of
from videossp.cli.output import first_process, say, show

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def evaluate(parser: "ArgumentParser") -> "Callable[[Namespace], int]":
    """accuracy of an adapter on labelled videos"""
    from videossp.classifier import load
    from videossp.errors import DataError
    from videossp.inference.evaluate import evaluate as run_evaluation
    from videossp.inference.evaluate import relabel
    from videossp.model.precision import Precision
    from videossp.reporting.figures import draw_confusion
    from videossp.reporting.page import write_report

    parser.add_argument("adapter", type=str, help="adapter or run folder")
    add_data(parser)
    parser.add_argument(
        "--split", type=str, help="train, val or test (default: test, or all of an unsplit folder)"
    )
    parser.add_argument("--backbone", type=str, help="weights of the backbone, if they have moved")
    parser.add_function_arguments(run_evaluation, skip={"classifier", "samples", "progress", "through"})
    parser.add_argument("--precision", type=Precision, default="float32", help="of the matrix products")
    parser.add_argument("--confusion", type=str, help="write the confusion matrix to this PNG")
    parser.add_argument(
        "--report", type=str, help="write a page with figures, pictures and predictions to this .html file"
    )

    def run(args: "Namespace") -> int:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import PartialState

            PartialState()  # joins the processes of torchrun, among which the videos are divided
        classifier = load(args.adapter, backbone=args.backbone).to_precision(args.precision)
        trained = classifier.metrics.get("precision", args.precision)
        if trained != args.precision:
            say(f"trained with --precision {trained}, evaluated with {args.precision}: it rounds otherwise")
        data = data_of(args)
        split = args.split or ("test" if list(data.splits) != ["train"] else "train")
        picture = to_write("--confusion", args.confusion, ".png")
        page = to_write("--report", args.report, ".html")
        if split not in data.splits:
            raise DataError(f"{place_of(args)}: no split {split}; it has {', '.join(data.splits)}")
        samples = relabel(data.splits[split], data.classes, classifier.classes)
        result = run_evaluation(
            classifier,
            samples,
            segments=args.segments,
            crops=args.crops,
            batch_size=args.batch_size,
            workers=args.workers,
            on_error=args.on_error,
            progress=True,
        )
        if split == "train":
            say("these are videos of the split train: the adapter may have been trained on them")
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
        if data.origin["format"] == "breakfast":
            # Four processes evaluated the published model.
            summary["per_base_name"] = [result.per_base_name(n) | {"processes": n} for n in (1, 4)]
            lines += [
                f"published score, one per base name, not per video: top-1 {100 * x['top1']:.1f} % of "
                f"{x['base_names']}, as evaluated by {x['processes']} process{'es' * (x['processes'] > 1)}"
                for x in summary["per_base_name"]
            ]
        show(args, summary, lines)  # first: what follows may not be writable
        if picture and first_process():
            draw_confusion(result, picture)
        if page and first_process():
            facts = {
                "adapter": args.adapter,
                "method": classifier.method,
                "data": f"{split} of {data.origin['data']}",
            }
            facts["result"] = lines[len(result.failures)]
            write_report(
                page,
                f"{classifier.method} on {split}",
                facts,
                {classifier.method: result},
                classifier.clip_format,
            )
        return 0

    return run


def to_write(flag: str, name: str | None, suffix: str) -> Path | None:
    """The file that a flag names, if it does: refused before the work, not after it."""
    path = Path(name) if name else None
    if path and (path.suffix != suffix or not path.parent.is_dir()):
        raise ValueError(f"{flag} {path}: must be a {suffix} in a folder that exists")
    return path
