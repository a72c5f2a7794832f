"""`videossp data` and `videossp doctor`."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videossp.cli.arguments import Arguments, listed
from videossp.cli.flags import READING, add_data, chosen, data_path
from videossp.cli.options import add_option, group_of
from videossp.cli.output import DATA, print_message, print_result

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from videossp.data.datasets import VideoDataset
    from videossp.data.doctor.checks import Finding
    from videossp.data.doctor.probe import Probe
    from videossp.embedding.near_duplicates import Pair

SPLITS = ("train", "val", "test")
SHOWN = 5  # findings per check, and frame sizes, that are printed
TABLE = 30  # classes that are printed
LIST_SENSITIVE = (
    "csv",
    "list",
    "folder",
)  # formats whose detection changes if another list file is in the folder


def doctor(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Check a data set: annotation, files, classes, splits."""
    from videossp.data.datasets.left_out import left_out_lines, left_out_summary
    from videossp.data.datasets.write import check_new_file, write_table
    from videossp.data.doctor.checks import CHECKS
    from videossp.data.doctor.examine import examine
    from videossp.errors import DataError

    add_data(parser)
    group = group_of(parser, "checks")
    add_option(group, "frames", int, "frames of the clips to train on", default=8)
    group.add_argument(
        "--fast", action="store_true", help="decode first frames only: misses damage inside files"
    )
    add_option(
        group,
        "only",
        list[str] | str,
        f"checks to do, by id or its beginning: {', '.join(CHECKS)}",
        default="",
    )
    add_option(group, "skip", list[str] | str, "checks to leave out", default="")
    add_option(group, "timeout", float, "seconds per file", default=60.0)
    add_option(group, "workers", int | None, "processes", shown="one per core")
    text = "find look-alikes across splits: embeddings of the videos in this file; it is made or completed"
    add_option(group, "near_duplicates", str, text)
    group = group_of(parser, "output")
    add_option(group, "report", str, "write pictures of the look-alikes to this .html file")
    add_option(group, "write_clean_list", str, "write the videos without errors to this .csv file")

    def run(args: "Namespace") -> int:
        file = Path(args.write_clean_list) if args.write_clean_list else None
        if file:
            check_new_file(file)  # before all videos are read
        path = data_path(args)
        page = Path(args.report) if args.report else None
        look_alikes: list[Pair] = []
        near = near_duplicates_of(args, page, look_alikes)
        diagnosis = examine(
            path,
            **chosen(args, (*READING, "frames", "fast", "timeout", "workers")),
            only=listed(args.only),
            skip=listed(args.skip),
            near_duplicates=near,
            progress=True,
        )
        samples, lines = diagnosis.samples, []
        for (severity, check), group in groupby(diagnosis.findings, lambda x: (x.severity, x.check)):
            messages = [f"  {x.message}" for x in group]
            lines += [f"{severity}: {check} ({len(messages):,})", *messages[:SHOWN]]
            if len(messages) > SHOWN:
                lines.append(f"  ... and {len(messages) - SHOWN:,} more (all with --json)")
        errors, warnings, infos = diagnosis.counts.values()
        totals = f"{counted(errors, 'error')}, {counted(warnings, 'warning')}, {infos:,} info"
        lines += left_out_lines(samples)
        lines.append(f"{totals} in {extent(samples)}{'; only first frames were decoded' * args.fast}")
        summary = {
            "format": samples.origin["format"],
            "classes": len(samples.classes),
            "videos": sizes(samples),
            "left_out": left_out_summary(samples),
            "checks": diagnosis.checks,
            "findings": [asdict(x) for x in diagnosis.findings],
            "counts": diagnosis.counts,
        }
        print_result(args, summary, lines)  # before the files, which may not be writable
        if page:
            from videossp.embedding.near_duplicates import write_pairs

            write_pairs(page, look_alikes, samples.classes)
        if file:
            try:
                kept = write_table(diagnosis.clean(), samples.classes, file)
            except (DataError, ValueError, OSError) as error:
                print_message(f"no list was written: {error}")
                return DATA
            print_message(
                f"{file}: {kept:,} of {counted(len(samples.all_samples()), 'video')}, those without errors"
            )
            beside_data = file.absolute().parent == Path(path).absolute()
            if beside_data and samples.origin["format"] in LIST_SENSITIVE:
                print_message(
                    f"use {file} as the data set: {path} now contains a second list file "
                    "and is detected differently"
                )
        return DATA if diagnosis.errors else 0

    return run


def near_duplicates_of(
    args: "Namespace", page: Path | None, pairs: "list[Pair]"
) -> "Callable[[VideoDataset], Iterator[Finding]] | None":
    """The check for near-duplicates, if --near-duplicates asks for it; it adds what it finds to `pairs`."""
    if page and (page.suffix != ".html" or not page.parent.is_dir()):
        raise ValueError(f"--report {page}: must be a .html in a folder that exists")
    if args.near_duplicates is None:
        if page:
            raise ValueError("--report shows look-alikes: it needs --near-duplicates FILE")
        return None
    from videossp.embedding.embeddings import check_suffix
    from videossp.embedding.near_duplicates import embeddings_of, near_duplicate_findings, near_duplicates

    file = Path(args.near_duplicates)
    check_suffix(file)

    def check(samples: "VideoDataset") -> "Iterator[Finding]":
        options = {
            "workers": 1 if args.workers is None else args.workers,
            "timeout": args.timeout,
            "progress": True,
        }
        pairs.extend(near_duplicates(embeddings_of(samples, file, **options), samples))
        return near_duplicate_findings(pairs)

    return check


def data(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Describe a data set: format, classes, splits, lengths and sizes of its videos."""
    from videossp.data.datasets import read_with_problems
    from videossp.data.datasets.class_doubts import class_warnings
    from videossp.data.datasets.left_out import left_out_summary
    from videossp.data.doctor.probe import probe_all

    add_data(parser)
    group = group_of(parser, "videos")
    group.add_argument("--fast", action="store_true", help="do not open the videos")
    add_option(group, "timeout", float, "seconds per file", default=60.0)
    add_option(group, "workers", int | None, "processes", shown="one per core")

    def run(args: "Namespace") -> int:
        samples, problems = read_with_problems(data_path(args), **chosen(args, READING))
        probes: list[Probe] = []
        if not args.fast:
            members = [x for _, x in samples.all_samples()]
            settings = {"timeout": args.timeout, "workers": args.workers, "progress": True}
            with closing(probe_all(members, decode=False, hashed=False, **settings)) as stream:
                probes = list(stream)
        readable = [x for x in probes if x.check is None]
        summary: dict[str, Any] = {
            "format": samples.origin["format"],
            "classes": by_class(samples),
            "videos": sizes(samples),
            "missing": len(samples.missing),
            "unlabelled": {split: len(names) for split, names in samples.unlabelled.items()},
            "ignored": len(samples.ignored),
            "left_out": left_out_summary(samples),
            "warnings": class_warnings(samples),
            "wrong_lines": len(problems),
            "unreadable": len(probes) - len(readable),
            "seconds": spread([x.seconds for x in readable if x.seconds is not None]),
            "frames": spread([x.frames for x in readable if x.frames is not None]),
            "sizes": dict(Counter("{} x {}".format(*x.size) for x in readable if x.size).most_common()),
        }
        return print_result(args, summary, summary_lines(samples, summary))

    return run


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 error", "2 errors"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def sizes(samples: "VideoDataset") -> dict[str, int]:
    """Number of videos by split, in the order train, val, test."""
    return {x: len(samples.splits[x]) for x in SPLITS if x in samples.splits}


def extent(samples: "VideoDataset") -> str:
    """Number of videos and classes in words."""
    splits = ", ".join(f"{split} {count:,}" for split, count in sizes(samples).items())
    videos = counted(len(samples.all_samples()), "video")
    return f"{videos} of {len(samples.classes):,} classes ({splits}), format {samples.origin['format']}"


def by_class(samples: "VideoDataset") -> dict[str, dict[str, int]]:
    """Number of videos by class and split."""
    counts = {split: Counter(x.label for x in samples.splits[split]) for split in sizes(samples)}
    return {
        name: {split: count[label] for split, count in counts.items()}
        for label, name in enumerate(samples.classes)
    }


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Total, minimum, median and maximum; None if there are no values."""
    if not values:
        return None
    from statistics import median

    return {"total": sum(values), "min": min(values), "median": median(values), "max": max(values)}


def class_table(classes: dict[str, dict[str, int]]) -> list[str]:
    """Table of videos by class and split; of many classes only the largest and the smallest."""
    names = list(classes)
    if len(names) > TABLE:
        names.sort(key=lambda x: -sum(classes[x].values()))
        names[TABLE // 2 : -TABLE // 2] = []
    width, splits = max(map(len, names)), list(classes[names[0]])
    rows = [f"{name:{width}}" + "".join(f"{classes[name][x]:9,}" for x in splits) for name in names]
    if len(names) < len(classes):
        rows.insert(TABLE // 2, f"... {len(classes) - len(names):,} more (all with --json) ...")
    return [" " * width + "".join(f"{x:>9}" for x in splits), *rows]


def summary_lines(samples: "VideoDataset", summary: dict[str, Any]) -> list[str]:
    """The lines that `data` prints."""
    from videossp.data.datasets.left_out import left_out_lines

    lines = [extent(samples), *class_table(summary["classes"])]
    lines += left_out_lines(samples)
    if x := summary["seconds"]:
        span = f"seconds {x['min']:.1f} to {x['max']:.1f}, median {x['median']:.1f}"
        lines.append(f"{x['total'] / 3600:.2f} hours, {span}")
    if x := summary["frames"]:
        lines.append(f"frames {x['min']:,} to {x['max']:,}, median {x['median']:,.0f}")
    if frame_sizes := [f"{size} ({count:,})" for size, count in summary["sizes"].items()]:
        more = f" and {counted(len(frame_sizes) - SHOWN, 'other')}" if len(frame_sizes) > SHOWN else ""
        lines.append(f"height x width {', '.join(frame_sizes[:SHOWN])}{more}")
    wrong, broken = summary["wrong_lines"], summary["unreadable"]
    problems = [f"{counted(wrong, 'problem')} in the annotation"] * bool(wrong)
    if problems := problems + [f"{counted(broken, 'video')} that cannot be read"] * bool(broken):
        lines.append(f"{' and '.join(problems)}; see videossp doctor")
    return [*lines, *(f"warning: {x}" for x in summary["warnings"])]
