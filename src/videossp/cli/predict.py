"""`videossp predict`."""

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videossp.cli.arguments import Arguments
from videossp.cli.bulk import add_bulk, bulk_of, run_bulk
from videossp.cli.flags import device_of
from videossp.cli.options import add_option, group_of
from videossp.cli.output import DATA, print_lines, print_message, print_result, print_row
from videossp.cli.videos import (
    adapters_of,
    add_adapters,
    check_speed,
    common_views_of,
    listed_paths,
    settings_of,
    start_workers,
    without_repeats,
    workers_of,
)

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from videossp.inference.predict import Prediction
    from videossp.system.rows import RowFile

Results = Generator[list["Prediction"], None, None]


def predict(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Print the most probable classes of videos, or write them to a file or to a folder of parts."""
    from videossp.bulk.predict_job import PredictJob
    from videossp.bulk.ray_cluster import Job
    from videossp.inference.predict import find_videos, predict_each
    from videossp.inference.prediction_rows import columns_of
    from videossp.model.backbones import absolute
    from videossp.system.rows import RowFile, check_suffix

    add_adapters(parser, given)
    add_bulk(parser)
    group = group_of(parser, "output")
    add_option(group, "top", int, "classes per video", default=5)
    add_option(group, "output", str, "FILE.jsonl|.csv|.parquet; an interrupted one is completed")
    add_option(group, "retry", bool, "read videos again whose row is an error", default=False)

    def run(args: "Namespace") -> int:
        if args.top < 1:
            raise ValueError(f"--top must be at least 1, got {args.top}")
        check_speed(args)
        output = None if args.output is None else Path(args.output)
        if output:
            check_suffix(output)
            if args.out is not None:
                raise ValueError("--output FILE and --out FOLDER both take the rows: give one of them")
        bulk = bulk_of(args)
        device = device_of(args)
        if args.ray is None:
            start_workers(args)
        adapters = adapters_of(args, device)
        classifiers = [*adapters.values()]
        views = common_views_of(args, classifiers)
        top = min(args.top, max(len(x.classes) for x in classifiers))
        names = [*adapters] if len(adapters) > 1 else [None]
        columns = columns_of(top, several=len(adapters) > 1)
        if bulk:
            job = PredictJob(
                adapters=tuple(os.path.abspath(x) for x in adapters),
                names=tuple(names),
                backbone=args.backbone and absolute(args.backbone),
                precision=tuple(x.precision for x in classifiers),
                views=views,
                top=top,
                table=args.part_format == "parquet",
                batch_size=args.batch_size,
                timeout=args.timeout or None,
            )
            return run_bulk(
                args,
                bulk,
                settings_of(adapters, views, top=top),
                columns,
                job.compute(classifiers, workers_of(args, device, bulk.videos.videos)),
                Job(job.start, args.device, args.workers),
            )
        videos = without_repeats(find_videos(listed_paths(args.paths, args.list), print_message))

        def results(videos: Sequence[str]) -> Results:
            return predict_each(
                classifiers,
                videos,
                segments=views[0],
                crops=views[1],
                on_error="skip",
                batch_size=args.batch_size,
                workers=workers_of(args, device, len(videos)),
                timeout=args.timeout or None,
            )

        if output is None:
            return print_all(args, results(videos), len(videos), top, names)
        key = [x for x in ("path", "adapter") if x in columns]
        settings = settings_of(adapters, views, top=top)
        with RowFile.open(output, columns, key, settings, retry=args.retry) as rows:
            missing = [x for x in videos if any(rows.lacks({"path": x, "adapter": y}) for y in names)]
            if len(missing) < len(videos):
                print_message(f"{output}: has {len(videos) - len(missing)} of {len(videos)} videos already")
            add_all(rows, results(missing), len(missing), top, names)
            failed = sum(rows.done[rows.key_of({"path": x, "adapter": names[0]})] is not None for x in videos)
        summary = {"output": str(output), "videos": len(videos), "read": len(missing), "failed": failed}
        print_result(args, summary, [f"{output}: {len(videos)} videos, {len(missing)} of them read now"])
        return report(failed, len(videos))

    return run


def print_all(args: "Namespace", results: Results, count: int, top: int, names: Sequence[str | None]) -> int:
    """Print each prediction as soon as it is there; returns the exit code."""
    from videossp.inference.prediction_rows import row_of
    from videossp.system.progress import with_bar

    failed = 0
    with closing(results):
        for predictions in with_bar(results, "predicting", count):
            failed += predictions[0].error is not None
            rows = [row_of(x, top, name) for x, name in zip(predictions, names, strict=True)]
            for row in rows:
                if args.json:
                    print_row(row)
                else:
                    print_lines([line_of(row)])
    return report(failed, count)


def add_all(rows: "RowFile", results: Results, count: int, top: int, names: Sequence[str | None]) -> None:
    """Add each prediction to a file as soon as it is there."""
    from videossp.inference.prediction_rows import flat, row_of
    from videossp.system.progress import with_bar

    with closing(results):
        for predictions in with_bar(results, "predicting", count):
            found = [row_of(x, top, name) for x, name in zip(predictions, names, strict=True)]
            rows.add(found if rows.path.suffix == ".jsonl" else [*map(flat, found)])
            if (error := predictions[0].error) is not None:
                print_message(f"FAILED {error}")


def report(failed: int, count: int) -> int:
    """Say how many videos failed; returns the exit code."""
    if failed:
        print_message(f"{failed} of {count} videos could not be decoded")
    return DATA if failed else 0


def line_of(row: dict[str, Any]) -> str:
    """A row of `row_of` for people: PATH: 91.5 % CLASS, 2.4 % CLASS."""
    place = f"{row['path']} ({row['adapter']})" if "adapter" in row else row["path"]
    if row["error"] is not None:
        return f"{place}: FAILED {row['error']}"
    return f"{place}: " + ", ".join(f"{100 * x['probability']:.1f} % {x['class']}" for x in row["top"])
