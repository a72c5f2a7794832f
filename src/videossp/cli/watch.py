"""`videossp watch`."""

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from videossp.cli.arguments import Arguments, listed
from videossp.cli.flags import add_adapter, device_of, load_adapter
from videossp.cli.options import add_option, group_of
from videossp.cli.output import DATA, print_error, print_message, print_result

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from videossp.watching.segment import Segment

REWRITE = 60.0  # seconds after which the files of a live source are written again
LIVE = {"auto": None, "on": True, "off": False}


def watch(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Find the actions in a long video, a camera or a stream."""
    from videossp.data.datasets.write import check_new_file
    from videossp.errors import DataError
    from videossp.training.signals import GracefulStop
    from videossp.watching.burn_in import burn_in
    from videossp.watching.outputs import check_outputs, write_outputs
    from videossp.watching.segmenter import NOTHING
    from videossp.watching.truth import agreement, read_truth
    from videossp.watching.watch import RECONNECT, Watcher

    add_adapter(parser, views=False)
    text = "video file, /dev/videoN, URL (rtsp, http, udp, tcp), or - for stdin"
    group_of(parser, "adapter").add_argument("source", type=str, metavar="SOURCE", help=text)
    group = group_of(parser, "windows")
    shown = "the training videos' mean"
    add_option(group, "window", list[float] | str, "lengths in seconds", default="", shown=shown)
    add_option(group, "hop", float | None, "seconds between windows", shown="a quarter of the shortest")
    group = group_of(parser, "segments")
    add_option(group, "nothing", float, "cost of a second without a class", default=NOTHING)
    add_option(group, "join", bool, "join neighbouring windows of one class", default=True)
    add_option(group, "truth", str, "true segments (start,end,label), to measure precision")
    group = group_of(parser, "live sources")
    add_option(group, "live", Literal["auto", "on", "off"], "drop frames if time is short", default="auto")
    add_option(group, "reconnect", float, "seconds to try a lost source again", default=RECONNECT)
    group = group_of(parser, "output")
    group.add_argument(
        "--output",
        type=str,
        action="append",
        metavar="FILE",
        help="write segments: .csv, .jsonl, .vtt, .eaf, .labelstudio.json; can be repeated",
    )
    add_option(group, "video", str, "write a copy of the file with the labels in it, .mp4")

    def run(args: "Namespace") -> int:
        outputs, picture = [Path(x) for x in args.output or ()], Path(args.video) if args.video else None
        classifier, stop = load_adapter(args, device_of(args)), GracefulStop()
        watcher = Watcher(
            classifier,
            args.source,
            windows=[float(x) for x in listed(args.window)],
            hop=args.hop,
            nothing=args.nothing,
            join=args.join,
            live=LIVE[args.live],
            reconnect=args.reconnect,
            report=print_message,
            stopped=lambda: stop.asked,
        )
        is_file = watcher.source.kind == "file" and args.live != "on"
        check_outputs(outputs, is_file)
        if picture:
            if picture.suffix != ".mp4" or not is_file:
                raise ValueError(f"--video {picture}: must be an .mp4, and SOURCE a file without --live on")
            check_new_file(picture)
        truth = read_truth(Path(args.truth), classifier.classes) if args.truth else None
        kept = bool(outputs or picture or truth or args.json)  # else a live source would fill the memory
        segments: list[Segment] = []
        problem: DataError | None = None

        def keep(segment: "Segment") -> None:
            if kept:
                segments.append(segment)
            if not args.json:
                print(json.dumps(segment.record(), ensure_ascii=False), flush=True)

        def write() -> None:
            write_outputs(outputs, segments, watcher.source.shown, watcher.video)

        with stop:
            found, written = iter(watcher), time.monotonic()
            try:
                for segment in found:
                    keep(segment)
                    if watcher.live and time.monotonic() - written > REWRITE:
                        try:
                            write()
                        except OSError as error:  # the disk may have room again at the next try
                            print_message(f"the outputs are not written: {error}")
                        written = time.monotonic()
            except DataError as error:
                problem = error
                print_error(str(error))
                if picture and watcher.counts.frames and not watcher.video:
                    print_error(f"{picture}: not written, as {watcher.source.shown} has no whole index")
            finally:
                found.close()
                if watcher.counts.frames:  # else a file would refuse the next try
                    write()
            if picture and watcher.video:
                with nullcontext() if stop.asked else stop.at_once():
                    burn_in(watcher.video, segments, picture, watcher.counts.seconds)
        measured = agreement(segments, truth) if truth else None
        counts = watcher.counts
        print_message(counts.line(bool(watcher.live)))
        for line in measured.lines() if measured else ():
            print_message(line)
        if args.json:
            summary = {
                "source": watcher.source.shown,
                "windows": [watcher.grid.seconds(x) for x in watcher.grid.lengths],
                "hop": watcher.grid.hop_seconds,
                "counts": asdict(counts),
                "segments": [x.record() for x in segments],
                "truth": measured and measured.summary(),
                "error": problem and str(problem),
            }
            print_result(args, summary, [])
        elif measured:
            print(json.dumps({"truth": measured.summary()}), flush=True)
        if stop.asked:
            raise KeyboardInterrupt
        return DATA if problem else 0

    return run
