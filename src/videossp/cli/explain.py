"""`videossp explain`."""

import inspect
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from videossp.cli.arguments import Arguments
from videossp.cli.flags import add_adapter, chosen, device_of, load_adapter
from videossp.cli.options import add_option, add_options, group_of
from videossp.cli.output import DATA, print_lines, print_message, print_row
from videossp.cli.videos import add_videos, listed_paths, without_repeats
from videossp.cli.written import out_folder, output_file

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from videossp.explanation.explanation import Explanation

ANIMATION = "gif"
VISIBLE = 0.005  # nats; a smaller effect of a frame is reported as none


def explain(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Show which patches and frames of a video a prediction depends on."""
    from videossp.errors import DataError
    from videossp.explanation.explain import ExplainSettings, check_class
    from videossp.explanation.explain import explain as run_explanation
    from videossp.inference.predict import find_videos
    from videossp.reporting.explained import explained, write_explanations
    from videossp.system.progress import with_bar

    add_adapter(parser, views=False)
    add_videos(group_of(parser, "adapter"), given)
    group = group_of(parser, "explanation")
    add_option(group, "class", str, "class to explain", shown="the predicted one")
    texts = {
        "method": "of the map",
        "baseline": "content that replaces parts of the clip",
        "mechanism": "also show quantities of how the model works, not why it decides",
        "check": "also measure the faithfulness of the map",
        "batch_size": "clips per pass without gradients",
    }
    names = inspect.signature(ExplainSettings).parameters.keys()
    shown = {"batch_size": "as many as fit"}
    add_options(group, ExplainSettings, texts, names=names - {"steps"}, shown=shown)
    add_option(group, "steps", int | None, "of integrated gradients", shown=str(ExplainSettings.steps))
    group = group_of(parser, "output")
    add_option(group, "out", str, "folder for pictures and arrays", shown="runs/explain-N, unless --report")
    kinds = Literal["gif", "mp4", "none"] | None
    add_option(group, "animation", kinds, "moving picture in the folder", shown=ANIMATION)
    add_option(group, "report", str, "write all explanations to this .html file")

    def run(args: "Namespace") -> int:
        if args.steps is not None and args.method == "occlusion":
            raise ValueError("--steps is of integrated gradients: leave it out with --method occlusion")
        if args.animation is not None and args.report is not None and args.out is None:
            raise ValueError("--animation is of the files in a folder: give --out too, or leave it out")
        args.steps = ExplainSettings.steps if args.steps is None else args.steps
        settings = ExplainSettings(**chosen(args, names))
        page = output_file("--report", args.report, ".html")
        if page and page.exists():
            raise ValueError(f"--report {page}: exists; choose another name")
        classifier = load_adapter(args, device_of(args))
        target = vars(args)["class"]
        if target is not None:
            check_class(target, classifier.classes)
        videos = without_repeats(find_videos(listed_paths(args.paths, args.list), print_message))
        if classifier.clip_format.views != (1, 1):
            segments, crops = classifier.clip_format.views
            print_message(f"one clip of each video is explained; predict averages {segments} x {crops} views")
        parts: list[str] = []
        failed = 0

        def results() -> "Generator[Explanation | DataError, None, None]":
            for video in videos:
                try:
                    alone = len(videos) == 1
                    yield run_explanation(
                        classifier, video, target=target, progress=alone, **chosen(args, names)
                    )
                except DataError as error:
                    yield error

        with ExitStack() as stack:
            folder = None
            if args.out is not None or page is None:
                folder = stack.enter_context(out_folder(args.out, "explain"))
                files = free_files(folder, videos)
            if page:
                # Also after Ctrl-C or a full disk, with the explanations until then.
                stack.callback(lambda: write_explanations(page, parts) if parts else None)
            found = stack.enter_context(closing(results()))
            shown = found if len(videos) == 1 else with_bar(found, "explaining", len(videos))
            for i, one in enumerate(shown):
                if isinstance(one, DataError):
                    failed += 1
                    print_message(f"FAILED {one}")
                    if args.json:
                        print_row({"path": videos[i], "error": str(one)})
                    continue
                if one.sum_is_off:
                    advice = f"give more --steps than {settings.steps}"
                    if classifier.precision == "bf16":
                        advice = "--precision float32 is more accurate"
                    print_message(
                        f"{videos[i]}: the map adds up to {one.map.sum():.3f}, but the logit changes by "
                        f"{one.change:.3f}: {advice}"
                    )
                written = write_files(one, files[i], args.animation or ANIMATION) if folder else []
                if page:
                    parts += explained(one)
                if args.json:
                    print_row({**one.summary(), "error": None, "files": [str(x) for x in written]})
                else:
                    print_lines([line_of(one, written)])
        if failed:
            print_message(f"{failed} of {len(videos)} videos could not be decoded")
        return DATA if failed else 0

    return run


SUFFIXES = (".png", ".gif", ".mp4", ".npz", ".mechanism.png")


def free_files(folder: Path, videos: Sequence[str]) -> list[Path]:
    """A path without suffix for each video; no file of one is a file of another.

    Raises:
        ValueError: the folder is a file, or a file that would be written exists.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder}: is a file; give a folder")
    files: list[Path] = []
    taken: set[str] = set()
    for video in videos:
        stem = Path(video).stem or "clip"
        name, number = stem, 2
        while not taken.isdisjoint(name + x for x in SUFFIXES):
            name, number = f"{stem}-{number}", number + 1
        taken.update(name + x for x in SUFFIXES)
        files.append(folder / name)
    for file in files:
        for suffix in SUFFIXES:
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
    text = f"{one.path}: {100 * one.probabilities[one.label]:.1f} % {one.label}"
    if one.target != one.label:
        text += f"; {100 * one.probabilities[one.target]:.1f} % {one.target}"
    t = int(one.frame_drops.argmax())
    if one.frame_drops[t] < VISIBLE:
        text += f"; no single frame lowers the probability of {one.target}"
    else:
        frame = f"frame {t + 1}" if one.seconds is None else f"the frame at {one.seconds[t]:.2f} s"
        change = -one.frame_drops[t]
        text += f"; without {frame} the log-probability of {one.target} changes by {change:+.2f}"
        if one.without_frame[t] != one.label:
            text += f", and {one.without_frame[t]} is predicted"
    if one.faithfulness is not None:
        text += f"; insertion - deletion {one.faithfulness.beyond_random:+.2f} beyond random"
    return f"{text}; {written[0]}" if written else text
