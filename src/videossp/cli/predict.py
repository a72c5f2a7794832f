"""`videossp predict`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from videossp.cli.output import DATA, say, show

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def predict(parser: "ArgumentParser") -> "Callable[[Namespace], int]":
    """most probable classes of video files and folders"""
    from videossp.classifier import load
    from videossp.inference.predict import predict as run_prediction
    from videossp.model.precision import Precision

    parser.add_argument("adapter", type=str, help="adapter or run folder")
    parser.add_argument("paths", type=str, nargs="+", help="videos, or folders that hold some")
    parser.add_argument("--top", type=int, default=5, help="classes to print per video")
    parser.add_argument("--segments", type=int, default=1, help="clips per video")
    parser.add_argument("--crops", type=int, default=1, help="crops per clip")
    parser.add_argument("--backbone", type=str, help="weights of the backbone, if they have moved")
    parser.add_argument("--precision", type=Precision, default="float32", help="of the matrix products")

    def run(args: "Namespace") -> int:
        if args.top < 1:
            raise ValueError(f"--top must be at least 1, got {args.top}")
        classifier = load(args.adapter, backbone=args.backbone).to_precision(args.precision)
        results = run_prediction(
            classifier, args.paths, segments=args.segments, crops=args.crops, on_error="skip"
        )
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
