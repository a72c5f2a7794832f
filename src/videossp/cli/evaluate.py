"""`videossp eval`."""

import inspect
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from videossp.cli.arguments import Arguments
from videossp.cli.flags import (
    add_adapter,
    add_data,
    chosen,
    data_of,
    data_path,
    device_of,
    load_adapter,
    views_of,
)
from videossp.cli.options import add_option, add_options, group_of
from videossp.cli.output import first_process, print_message, print_result
from videossp.cli.written import output_file

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from videossp.data.datasets import Sample, VideoDataset


def evaluate(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Measure the accuracy of an adapter on labelled videos."""
    from videossp.comparison.intervals import wilson
    from videossp.data.datasets.left_out import left_out_lines, left_out_summary
    from videossp.errors import DataError
    from videossp.explanation.explain import ExplainSettings
    from videossp.inference.evaluate import evaluate as run_evaluation
    from videossp.inference.evaluate import relabel
    from videossp.reporting.figures import draw_confusion
    from videossp.reporting.page import write_report
    from videossp.reporting.why_wrong import WRONG, explain_wrong

    add_adapter(parser)
    add_data(parser)
    add_option(group_of(parser, "data"), "split", str, "train, val or test", shown="test, or all if unsplit")
    handled = {"classifier", "samples", "segments", "crops", "progress", "through"}
    names = inspect.signature(run_evaluation).parameters.keys() - handled
    texts = {
        "batch_size": "views per forward pass",
        "workers": "processes that decode ahead",
        "timeout": "seconds a worker process may take for a video",
        "on_error": "if a video cannot be decoded",
    }
    shown = {"batch_size": "4; on a GPU as many as fit", "workers": "0; on a GPU cores - 1"}
    add_options(group_of(parser, "evaluation"), run_evaluation, texts, names=names, shown=shown)
    group = group_of(parser, "output")
    add_option(group, "confusion", str, "write the confusion matrix to this .png file")
    add_option(group, "report", str, "write figures, pictures and predictions to this .html file")
    text = "most wrong predictions that the report explains"
    add_option(group, "explain", int | None, text, shown=str(WRONG))

    def run(args: "Namespace") -> int:
        if args.explain is not None and (args.explain < 0 or not args.report):
            raise ValueError(
                "--explain is a number from 0 of wrong predictions in the report: it needs --report"
            )
        device = device_of(args)
        several = int(os.environ.get("WORLD_SIZE", "1")) > 1
        if several:
            from videossp.training.distributed import join_processes, leave_processes

            join_processes(args.device)  # the videos are divided among them
        classifier = load_adapter(args, device)
        segments, crops = views_of(args, classifier)
        data = data_of(args, least_classes=1)
        split: str = args.split or ("test" if list(data.splits) != ["train"] else "train")
        picture = output_file("--confusion", args.confusion, ".png")
        page = output_file("--report", args.report, ".html")
        if split not in data.splits:
            raise DataError(f"{data_path(args)}: no split {split}; it has {', '.join(data.splits)}")
        samples = relabel(data.splits[split], data.classes, classifier.classes)
        result = run_evaluation(
            classifier,
            samples,
            segments=segments,
            crops=crops,
            progress=True,
            **chosen(args, names),
        )
        for line in left_out_lines(data):
            print_message(line)
        if split == "train":
            print_message("these are training videos: the adapter may have been trained on them")
        summary = {
            "split": split,
            **result.summary(),
            "top1_interval": wilson(result.top(1), len(samples)),
            "failures": result.failures,
            "left_out": left_out_summary(data),
            "classes": result.classes,
            "confusion": result.confusion.tolist(),
            "recall": [None if x != x else x for x in result.class_accuracy.tolist()],
        }
        low, high = (100 * x for x in summary["top1_interval"])
        top5 = "" if summary["top5"] is None else f"top-5 {100 * summary['top5']:.1f} %, "
        lines = [f"could not be decoded, counted as wrong: {reason}" for reason in result.failures.values()]
        lines += [
            f"top-1 {100 * summary['top1']:.1f} % (95 % interval {low:.1f} to {high:.1f} %), {top5}"
            f"mean class accuracy {100 * summary['mean_class_accuracy']:.1f} %, macro F1 "
            f"{100 * summary['macro_f1']:.1f} % on {len(samples)} videos of "
            f"{split}, views (segments x crops) {summary['views']}",
            *calibration_lines(summary["calibration_error"]),
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
        print_result(args, summary, lines)  # before the files, which may not be writable
        if several:
            leave_processes()
        if picture and first_process():
            draw_confusion(result, picture)
        if page and first_process():
            figures = {
                "adapter": args.adapter,
                "method": classifier.method,
                "data": f"{split} of {data.origin['data']}",
                "result": lines[len(result.failures)],
            }

            def report(*more: str) -> None:
                title, tests = f"{classifier.method} on {split}", {classifier.method: result}
                write_report(page, title, figures, tests, classifier.clip_format, more=more)

            report()  # explanations take long: if they are interrupted, the rest is there
            if args.explain != 0:
                training = [] if split == "train" else known_samples(data, classifier.classes)
                settings = ExplainSettings(batch_size=args.batch_size)
                report(
                    *explain_wrong(
                        classifier,
                        result,
                        training,
                        most=WRONG if args.explain is None else args.explain,
                        settings=settings,
                        workers=args.workers,
                        timeout=args.timeout,
                        progress=True,
                    )
                )
        return 0

    return run


def calibration_lines(error: float | None) -> list[str]:
    """The calibration error for people."""
    return [] if error is None else [f"calibration error {100 * error:.1f} % (expected, 15 bins)"]


def known_samples(data: "VideoDataset", classes: Sequence[str]) -> "list[Sample]":
    """The training videos of the classes that a classifier knows, with its labels."""
    from videossp.inference.evaluate import relabel

    training = [x for x in data.splits.get("train", ()) if data.classes[x.label] in classes]
    return relabel(training, data.classes, classes)
