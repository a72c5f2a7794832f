"""`videossp predict`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from videossp.cli.arguments import Arguments
from videossp.cli.flags import add_adapter, device_of, load_adapter, views_of
from videossp.cli.options import add_option, group_of
from videossp.cli.output import DATA, print_lines, print_message, print_result

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def predict(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Print the most probable classes of videos."""
    from videossp.inference.predict import find_videos, predict_each
    from videossp.system.progress import with_bar

    add_adapter(parser)
    group_of(parser, "adapter").add_argument(
        "paths", type=str, nargs="+", metavar="VIDEO", help="videos, or folders of videos"
    )
    add_option(group_of(parser, "output"), "top", int, "classes to print per video", default=5)

    def run(args: "Namespace") -> int:
        if args.top < 1:
            raise ValueError(f"--top must be at least 1, got {args.top}")
        classifier = load_adapter(args, device_of(args))
        segments, crops = views_of(args, classifier)
        videos = find_videos(args.paths, print_message)
        results = predict_each(classifier, videos, segments, crops, on_error="skip")
        summary, failed = [], 0
        for result in with_bar(results, "predicting", len(videos)):
            ranked = list(result.probabilities.items())[: args.top]
            summary.append(
                {
                    "path": result.path,
                    "error": result.error,
                    "top": [{"class": name, "probability": p} for name, p in ranked],
                }
            )
            if result.error is not None:
                failed += 1
                ending = [f"  FAILED {result.error}"]
            else:
                ending = [f"  {100 * p:5.1f} %  {name}" for name, p in ranked]
            if not args.json:
                print_lines([result.path, *ending])  # at once, not at the end
        if args.json:
            print_result(args, summary, [])
        if failed:
            print_message(f"{failed} of {len(videos)} videos could not be decoded")
        return DATA if failed else 0

    return run
