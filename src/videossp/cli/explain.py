"""`videossp explain`."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from videossp.cli.arguments import Arguments
from videossp.cli.flags import add_adapter, chosen, device_of, load_adapter, out_folder, output_file
from videossp.cli.options import add_option, add_options, group_of
from videossp.cli.output import DATA, print_lines, print_message, print_row
from videossp.cli.videos import add_videos, listed_paths, without_repeats

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from videossp.explanation.explanation import Explanation

LARGE_GAP = 0.05  # of the sum of integrated gradients; then a message advises more steps


def explain(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Show which patches and frames of a video a prediction depends on."""
    from videossp.errors import DataError
    from videossp.explanation.explain import ExplainSettings
    from videossp.explanation.explain import explain as run_explanation
    from videossp.inference.predict import find_videos
    from videossp.reporting.explained import write_explanations
    from videossp.system.progress import with_bar

    add_adapter(parser, views=False)
    add_videos(group_of(parser, "adapter"), given)
    group = group_of(parser, "explanation")
    add_option(group, "class", str, "class to explain", shown="the predicted one")
    texts = {
        "method": "of the map",
        "baseline": "content that replaces parts of the clip",
        "steps": "of integrated gradients",
        "mechanism": "also show quantities of the model, which are no reasons",
        "check": "also measure the faithfulness of the map",
        "batch_size": "clips per pass without gradients",
    }
    names = inspect.signature(ExplainSettings).parameters.keys()
    add_options(group, ExplainSettings, texts, names=names, shown={"batch_size": "as many as fit"})
    group = group_of(parser, "output")
    add_option(group, "out", str, "folder for pictures and arrays", shown="runs/explain-N, unless --report")
    add_option(group, "animation", Literal["gif", "mp4", "none"], "kind of the moving picture", default="gif")
    add_option(group, "report", str, "write all explanations to this .html file")

    def run(args: "Namespace") -> int:
        settings = ExplainSettings(**chosen(args, names))
        page = output_file("--report", args.report, ".html")
        classifier = load_adapter(args, device_of(args))
        target = vars(args)["class"]
        if target is not None and target not in classifier.classes:
            raise ValueError(f"--class {target}: the classes are {', '.join(classifier.classes)}")
        videos = without_repeats(find_videos(listed_paths(args.paths, args.list), print_message))
        if classifier.clip_format.views != (1, 1):
            segments, crops = classifier.clip_format.views
            print_message(f"one clip of each video is explained; predict averages {segments} x {crops} views")
        found: list[Explanation] = []
        failed = 0
        with ExitStack() as stack:
            folder = None
            if args.out is not None or page is None:
                folder = stack.enter_context(out_folder(args.out, "explain"))
                files = free_files(folder, videos)
            for i, video in enumerate(with_bar(videos, "explaining", len(videos))):
                try:
                    one = run_explanation(
                        classifier, video, target=target, progress=len(videos) == 1, **chosen(args, names)
                    )
                except DataError as error:
                    failed += 1
                    print_message(f"FAILED {error}")
                    continue
                if one.gap is not None and one.gap > LARGE_GAP:
                    print_message(
                        f"{video}: the map adds up to the change of the logit within {100 * one.gap:.0f} %; "
                        f"more --steps than {settings.steps} make it exact"
                    )
                written = write_files(one, files[i], args.animation) if folder else []
                if page:
                    found.append(one)
                if args.json:
                    print_row({**one.summary(), "files": [str(x) for x in written]})
                else:
                    print_lines([line_of(one, written)])
            if page and found:
                write_explanations(page, found)
        if failed:
            print_message(f"{failed} of {len(videos)} videos could not be decoded")
        return DATA if failed else 0

    return run


def free_files(folder: Path, videos: Sequence[str]) -> list[Path]:
    """A path without suffix for each video, all different.

    Raises:
        ValueError: a file that would be written exists.
    """
    files: list[Path] = []
    taken: set[str] = set()
    for video in videos:
        stem = Path(video).stem or "clip"
        name, number = stem, 2
        while name in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name)
        files.append(folder / name)
    for file in files:
        for suffix in (".png", ".gif", ".mp4", ".npz", ".mechanism.png"):
            if (path := file.with_name(file.name + suffix)).exists():
                raise ValueError(f"{path}: exists; choose another --out")
    return files


def write_files(one: "Explanation", file: Path, animation: str) -> list[Path]:
    """Write picture, animation and arrays of an explanation; returns their paths."""
    from videossp.reporting.animation import write_animation
    from videossp.reporting.heat_maps import draw_explanation, draw_mechanism

    def named(suffix: str) -> Path:
        written.append(file.with_name(file.name + suffix))
        return written[-1]

    written: list[Path] = []
    file.parent.mkdir(parents=True, exist_ok=True)
    draw_explanation(one, named(".png"))
    if one.mechanism:
        draw_mechanism(one, named(".mechanism.png"))
    if animation != "none":
        write_animation(one, named(f".{animation}"), f".{animation}")
    one.save(named(".npz"))
    return written


def line_of(one: "Explanation", written: Sequence[Path]) -> str:
    """An explanation for people, on one line."""
    t = int(one.frame_drops.argmax())
    frame = f"frame {t + 1}" if one.seconds is None else f"the frame at {one.seconds[t]:.2f} s"
    text = f"{one.path}: {100 * one.probabilities[one.label]:.1f} % {one.label}"
    if one.target != one.label:
        text += f"; {one.target} {100 * one.probabilities[one.target]:.1f} %"
    change = one.frame_drops[t]
    text += f"; without {frame} the log-probability of {one.target} changes by {-change:+.2f}"
    if one.without_frame[t] != one.label:
        text += f", and {one.without_frame[t]} is predicted"
    if one.faithfulness is not None:
        text += f"; insertion - deletion {one.faithfulness.beyond_random:+.2f} beyond random"
    return f"{text}; {written[0]}" if written else text
