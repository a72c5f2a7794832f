"""Flags of verbs that read many videos with one adapter or several, and the values that follow from them."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from videossp.cli.arguments import Arguments
from videossp.cli.flags import add_device, load_adapter, views_of
from videossp.cli.options import add_option, group_of
from videossp.cli.output import print_message

if TYPE_CHECKING:
    import torch
    from jsonargparse import ArgumentParser, Namespace

    from videossp.classifier import Classifier

WORKERS_PAY = 32  # videos from which on worker processes pay for their start on a CPU
TIMEOUT = 60.0


def add_adapters(parser: "ArgumentParser", given: Arguments) -> None:
    """One adapter, as the first argument or by --adapter, or several; videos; how clips are read."""
    group = group_of(parser, "adapter")
    if given.value("adapter") is None:
        group.add_argument("adapter", type=str, metavar="ADAPTER", help="adapter folder or run folder")
    several = "in place of ADAPTER; may be repeated"
    group.add_argument(
        "--adapter", dest="adapters", type=str, action="append", metavar="FOLDER", help=several
    )
    add_videos(group, given)
    add_option(group, "backbone", str, "weights of the backbone, if they have moved")
    add_computing(parser, group)


def add_videos(group: Any, given: Arguments) -> None:
    """The videos, as positional arguments or as a list in a file."""
    videos = "videos, folders, patterns; - reads a list from stdin"
    # With *, argparse would refuse VIDEO after another flag.
    count = "+" if given.value("list") is None and given.value("out") is None else "*"
    group.add_argument("paths", type=str, nargs=count, metavar="VIDEO", help=videos)
    add_option(group, "list", str, "of videos, one path or URI per line, in place of VIDEO")


def add_computing(parser: "ArgumentParser", group: Any) -> None:
    """Views, precision and device in the group of the model; batches and workers in a group of their own."""
    from videossp.model.precision import Precision

    add_option(group, "segments", int | None, "clips per video", shown="the adapter's")
    add_option(group, "crops", int | None, "crops per clip", shown="the adapter's")
    add_option(group, "precision", Precision | None, "of matrix products", shown="that of the training")
    add_device(group)
    group = group_of(parser, "speed")
    add_option(group, "batch_size", int | None, "views per pass", shown="as many as fit")
    add_option(group, "workers", int | None, "processes that decode ahead", shown="cores - 1, for many")
    add_option(group, "timeout", float, "seconds per video in a worker; 0: no limit", default=TIMEOUT)


def check_speed(args: "Namespace") -> None:
    """Refuse numbers below the least ones, before anything is read or written."""
    for name, least in (("batch_size", 1), ("workers", 0), ("timeout", 0)):
        if args[name] is not None and args[name] < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {args[name]}")


def adapters_of(args: "Namespace", device: "torch.device") -> "dict[str, Classifier]":
    """The adapters that the flags name, by the folders as they were given."""
    folders: list[str] = args.adapters or [args.adapter]
    if "" in folders:
        raise ValueError("--adapter is empty: give a value, or leave it out")
    if len(set(folders)) < len(folders):
        raise ValueError(f"--adapter {next(x for x in folders if folders.count(x) > 1)} is given twice")
    return {folder: load_adapter(args, device, folder) for folder in folders}


def start_workers(args: "Namespace") -> None:
    """Start the process from which workers are forked, so that it imports torch while a model is loaded."""
    from videossp.inference.decode_ahead import MODULES
    from videossp.system.worker_pool import start_server

    many = args.list or len(args.paths) >= WORKERS_PAY or not all(map(os.path.isfile, args.paths))
    if args.workers != 0 and many:
        start_server(MODULES)


def common_views_of(args: "Namespace", classifiers: "Sequence[Classifier]") -> tuple[int, int]:
    """(segments, crops) per video: those of the flags, else those of the adapters, which must agree."""
    from videossp.inference.predict import common_views

    common_views(classifiers, args.segments, args.crops)
    return views_of(args, classifiers[0])


def workers_of(args: "Namespace", device: "torch.device", videos: int) -> int:
    """Processes that decode ahead: those of the flags, else none for a few videos."""
    from videossp.system.worker_pool import core_count

    if args.workers is not None:
        return int(args.workers)
    if device.type == "cpu" and videos < WORKERS_PAY:
        return 0
    return min(max(1, core_count() - 1), videos)


def listed_paths(paths: Iterable[str], file: str | None = None) -> list[str]:
    """The paths, with those that stdin lists, one per line, in place of -, and those of a file of lines.

    Raises:
        ValueError: a list is empty, or - is given twice.
        DataError: the file cannot be read.
    """
    out = [] if file is None else [*lines_of(file)]
    for path in paths:
        if path != "-":
            out.append(path)
            continue
        if isinstance(sys.stdin, TextIOWrapper):  # any name that a file can have, but for "\n"
            sys.stdin.reconfigure(
                encoding=sys.getfilesystemencoding(), errors=sys.getfilesystemencodeerrors(), newline="\n"
            )
        lines = [line.removesuffix("\n").removesuffix("\r") for line in sys.stdin]
        found = [line for line in lines if line]
        if not found:
            raise ValueError("-: stdin has no lines; it must list videos, one per line")
        out += found
    if not out:
        raise ValueError(f"{file}: is empty; it must have the path or URI of a video on each line")
    return out


def lines_of(file: str) -> Iterator[str]:
    """The lines of a file, but empty ones.

    Raises:
        DataError: it cannot be read.
    """
    from videossp.errors import DataError

    try:
        with open(file, "rb") as lines:
            yield from filter(None, (os.fsdecode(line.rstrip(b"\r\n")) for line in lines))
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error


def without_repeats(videos: Sequence[str]) -> list[str]:
    """The videos, each once; a message counts those that were given several times."""
    once = list(dict.fromkeys(videos))
    if len(once) < len(videos):
        print_message(f"{len(videos) - len(once)} repetitions of videos are left out")
    return once


def settings_of(adapters: "dict[str, Classifier]", views: tuple[int, int], **others: Any) -> dict[str, Any]:
    """What results depend on, but the videos, as JSON: adapters, backbones, clips and precision."""
    from videossp.adapter_folder import digest

    several = len(adapters) > 1  # then rows hold the names
    return {
        "adapters": [
            {
                "name": name if several else None,
                "sha256": digest(x.check_saving()),
                "backbone_sha256": x.sha256,
                "classes": list(x.classes),
                "clip": asdict(x.clip_format),
                "precision": x.precision,
            }
            for name, x in adapters.items()
        ],
        "views": list(views),
        **others,
    }
