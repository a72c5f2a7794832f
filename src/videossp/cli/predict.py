"""`videossp predict`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from videossp.cli.arguments import Arguments
from videossp.cli.flags import add_adapter, load_adapter, views_of
from videossp.cli.options import add_option, group_of
from videossp.cli.output import DATA, print_message, print_result

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def predict(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Print the most probable classes of videos."""
    from videossp.inference.predict import find_videos
    from videossp.inference.predict import predict as run_prediction

    add_adapter(parser)
    group_of(parser, "adapter").add_argument(
        "paths", type=str, nargs="+", metavar="VIDEO", help="videos, or folders of videos"
    )
    add_option(group_of(parser, "output"), "top", int, "classes to print per video", default=5)

    def run(args: "Namespace") -> int:
        if args.top < 1:
            raise ValueError(f"--top must be at least 1, got {args.top}")
        classifier = load_adapter(args)
        segments, crops = views_of(args, classifier)
        videos = find_videos(args.paths, print_message)
        results = run_prediction(classifier, videos, segments=segments, crops=crops, on_error="skip")
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
        print_result(args, summary, lines)
        failed = sum(result.error is not None for result in results)
        if failed:
            print_message(f"{failed} of {len(results)} videos could not be decoded")
        return DATA if failed else 0

    return run
