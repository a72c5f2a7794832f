"""Flags of verbs that read a list of videos in shards, and the run that they describe."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from videossp.cli.options import add_option, group_of
from videossp.cli.output import DATA, print_message, print_result

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from videossp.bulk.parts import Parts
    from videossp.bulk.ray_cluster import Job
    from videossp.bulk.run_shards import Compute, Done
    from videossp.bulk.video_list import VideoList

PartFormat = Literal["jsonl", "parquet"]


def add_bulk(parser: "ArgumentParser") -> None:
    """A folder of parts for the shards of --list, and which of them this process computes."""
    group = group_of(parser, "bulk")
    add_option(group, "out", str, "of part-00000.jsonl, ..., one per shard of --list; resumable")
    add_option(group, "shard_size", int, "videos per shard", default=1000)
    add_option(group, "shard", str, "shards I, I + N, I + 2 N, ... alone; I from 0")
    add_option(group, "part_format", PartFormat, "of the parts", default="jsonl")
    add_option(group, "ray", str, "local, or the address of a Ray cluster, whose actors compute")


@dataclass(frozen=True)
class Bulk:
    """The list of a bulk run and its shards, checked before a model is loaded.

    Attributes:
        videos: the list.
        shards: numbers of the shards that the flags ask for.
    """

    videos: "VideoList"
    shards: range


def bulk_of(args: "Namespace") -> Bulk | None:
    """The bulk run that the flags describe; None without --out.

    Raises:
        ValueError: flags that do not fit together, or a library that is missing.
        DataError: the list cannot be used.
    """
    from videossp.bulk.video_list import read_list
    from videossp.data.video.remote import check_scheme

    if args.out is None:
        if given := next((x for x in ("shard", "ray") if args[x] is not None), None):
            raise ValueError(f"--{given} needs --out FOLDER and --list FILE")
        return None
    if args.list is None or args.paths:
        raise ValueError("--out needs its videos in a file: --list FILE, one path or URI per line")
    if args.shard is not None and args.ray is not None:
        raise ValueError("--shard and --ray both divide the shards: give one of them")
    first, step = (0, 1) if args.shard is None else share_of(args.shard)
    videos = read_list(Path(args.list), args.shard_size)
    for scheme in sorted(videos.schemes):
        check_scheme(scheme)
    return Bulk(videos, range(first, videos.shards, step))


def share_of(shard: str) -> tuple[int, int]:
    """(i, n) of the text i/n."""
    first, slash, count = shard.partition("/")
    if not (slash and first.isdecimal() and count.isdecimal() and int(first) < int(count)):
        raise ValueError(f"--shard must be I/N with I from 0 to N - 1, as 0/4, got {shard}")
    return int(first), int(count)


def run_bulk(
    args: "Namespace",
    bulk: Bulk,
    settings: Mapping[str, Any],
    columns: Mapping[str, type],
    compute: "Compute",
    job: "Job",
) -> int:
    """Write the parts and print how many there are; returns the exit code.

    Args:
        args: the flags.
        bulk: of `bulk_of`.
        settings: what the rows depend on, but the videos.
        columns: names and types of the columns of Parquet.
        compute: of this process.
        job: the same for actors of Ray.
    """
    from videossp.bulk.parts import open_parts
    from videossp.bulk.ray_cluster import run_on_ray
    from videossp.bulk.run_shards import run_shards
    from videossp.system.progress import with_bar

    videos, shards = bulk.videos, bulk.shards
    own = {"list_sha256": videos.sha256, "videos": videos.videos, "shard_size": videos.shard_size}
    parts = open_parts(Path(args.out), args.part_format, columns, {**own, **settings})
    missing = parts.missing(shards)
    if len(missing) < len(shards):
        print_message(f"{args.out}: has {len(shards) - len(missing)} of {len(shards)} parts already")
    written: dict[int, int] = {}
    failed = 0
    if missing:
        if args.ray is None:
            results = run_shards(missing, videos.shard, parts, compute)
        else:
            results = run_on_ray(args.ray, missing, videos.shard, parts, job)
        try:
            for done in with_bar(results, "shards", len(missing)):
                written[done.shard] = done.videos
                failed += done.failed
                print_message(line_of(parts, done))
        finally:
            results.close()
    failed += sum(map(parts.failed, {*shards} - written.keys()))  # of earlier runs and other processes
    count = sum(map(videos.size_of, shards))
    summary = {
        "out": os.fspath(args.out),
        "parts": len(shards),
        "parts_in_all": videos.shards,
        "parts_there": videos.shards - len(parts.missing(range(videos.shards))),
        "videos": count,
        "videos_read_now": sum(written.values()),
        "failed": failed,
    }
    which = "" if args.shard is None else f" of --shard {args.shard}"
    line = (
        f"{args.out}: {summary['parts_there']} of {videos.shards} parts are there; {len(shards)}{which} "
        f"with {count} videos, {summary['videos_read_now']} of them read now"
    )
    print_result(args, summary, [line])
    if failed:
        print_message(f"{failed} of {count} videos could not be read; their rows have the error")
    return DATA if failed else 0


def line_of(parts: "Parts", done: "Done") -> str:
    """A shard that was written, for people."""
    failed = f", {done.failed} failed" if done.failed else ""
    return f"{parts.path(done.shard).name}: {done.videos} videos{failed}"
