"""`videossp data` and `videossp doctor`."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from videossp.cli.arguments import Arguments, listed
from videossp.cli.flags import READING, add_data, chosen, data_path
from videossp.cli.options import add_option, group_of
from videossp.cli.output import DATA, say, show

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from videossp.data.datasets import VideoDataset
    from videossp.data.doctor.probe import Probe

SPLITS = ("train", "val", "test")
SHOWN = 5  # findings of a check, sizes, that are printed
TABLE = 30  # classes that are printed
BY_FILES = ("csv", "list", "folder")  # formats that one more list in the folder changes


def doctor(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Check a data set: annotation, files, classes, splits."""
    from videossp.data.datasets.write import refuse_place, write_table
    from videossp.data.doctor.checks import CHECKS
    from videossp.data.doctor.examine import examine
    from videossp.errors import DataError

    add_data(parser)
    group = group_of(parser, "checks")
    add_option(group, "frames", int, "frames of the clips to train on", default=8)
    group.add_argument("--fast", action="store_true", help="decode no frames: misses damage inside files")
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
    group = group_of(parser, "output")
    add_option(group, "write_clean_list", str, "write the videos without errors to this .csv file")

    def run(args: "Namespace") -> int:
        file = Path(args.write_clean_list) if args.write_clean_list else None
        if file:
            refuse_place(file)  # now, and not when all videos have been read
        place = data_path(args)
        diagnosis = examine(
            place,
            **chosen(args, (*READING, "frames", "fast", "timeout", "workers")),
            only=listed(args.only),
            skip=listed(args.skip),
            progress=True,
        )
        samples, lines = diagnosis.samples, []
        for (severity, check), group in groupby(diagnosis.findings, lambda x: (x.severity, x.check)):
            messages = [f"  {x.message}" for x in group]
            lines += [f"{severity}: {check} ({len(messages):,})", *messages[:SHOWN]]
            if len(messages) > SHOWN:
                lines.append(f"  ... and {len(messages) - SHOWN:,} more (all with --json)")
        errors, warnings, infos = diagnosis.counts.values()
        found = f"{counted(errors, 'error')}, {counted(warnings, 'warning')}, {infos:,} info"
        lines.append(f"{found} in {extent(samples)}{'; no frame was decoded' * args.fast}")
        summary = {
            "format": samples.origin["format"],
            "classes": len(samples.classes),
            "videos": sizes(samples),
            "checks": diagnosis.checks,
            "findings": [asdict(x) for x in diagnosis.findings],
            "counts": diagnosis.counts,
        }
        show(args, summary, lines)  # first: it took long to find, and the list may not be writable
        if file:
            try:
                kept = write_table(diagnosis.clean(), samples.classes, file)
            except (DataError, ValueError, OSError) as error:
                say(f"no list was written: {error}")
                return DATA
            say(f"{file}: {kept:,} of {counted(len(samples.every()), 'video')}, those without errors")
            if file.absolute().parent == Path(place).absolute() and samples.origin["format"] in BY_FILES:
                say(f"give {file} as the data set: {place} has one more list now and is read differently")
        return DATA if diagnosis.errors else 0

    return run


def data(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Describe a data set: format, classes, splits, lengths and sizes of its videos."""
    from videossp.data.datasets import read_complaining
    from videossp.data.doctor.probe import probe_all

    add_data(parser)
    group = group_of(parser, "videos")
    group.add_argument("--fast", action="store_true", help="do not open the videos")
    add_option(group, "timeout", float, "seconds per file", default=60.0)
    add_option(group, "workers", int | None, "processes", shown="one per core")

    def run(args: "Namespace") -> int:
        samples, wrong = read_complaining(data_path(args), **chosen(args, READING))
        probes: list[Probe] = []
        if not args.fast:
            every = [x for _, x in samples.every()]
            settings = {"timeout": args.timeout, "workers": args.workers, "progress": True}
            with closing(probe_all(every, decode=False, hashed=False, **settings)) as stream:
                probes = list(stream)
        read = [x for x in probes if x.check is None]
        summary: dict[str, Any] = {
            "format": samples.origin["format"],
            "classes": by_class(samples),
            "videos": sizes(samples),
            "missing": len(samples.missing),
            "unlabelled": {split: len(names) for split, names in samples.unlabelled.items()},
            "ignored": len(samples.ignored),
            "wrong_lines": len(wrong),
            "unreadable": len(probes) - len(read),
            "seconds": spread([x.seconds for x in read if x.seconds is not None]),
            "frames": spread([x.frames for x in read if x.frames is not None]),
            "sizes": dict(Counter("{} x {}".format(*x.size) for x in read if x.size).most_common()),
        }
        return show(args, summary, told(samples, summary))

    return run


def counted(number: int, noun: str) -> str:
    """1 error, 2 errors."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def sizes(samples: "VideoDataset") -> dict[str, int]:
    """Number of videos by split, in the order train, val, test."""
    return {x: len(samples.splits[x]) for x in SPLITS if x in samples.splits}


def extent(samples: "VideoDataset") -> str:
    """How much there is, in words."""
    splits = ", ".join(f"{split} {count:,}" for split, count in sizes(samples).items())
    videos = counted(len(samples.every()), "video")
    return f"{videos} of {len(samples.classes):,} classes ({splits}), format {samples.origin['format']}"


def by_class(samples: "VideoDataset") -> dict[str, dict[str, int]]:
    """Number of videos by class and split."""
    counts = {split: Counter(x.label for x in samples.splits[split]) for split in sizes(samples)}
    return {
        name: {split: count[label] for split, count in counts.items()}
        for label, name in enumerate(samples.classes)
    }


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Total, smallest, median and largest; None of nothing."""
    if not values:
        return None
    return {"total": sum(values), "min": min(values), "median": median(values), "max": max(values)}


def class_table(classes: dict[str, dict[str, int]]) -> list[str]:
    """Videos of each class and split; of many classes those with the most and with the fewest."""
    names = list(classes)
    if len(names) > TABLE:
        names.sort(key=lambda x: -sum(classes[x].values()))
        names[TABLE // 2 : -TABLE // 2] = []
    width, splits = max(map(len, names)), list(classes[names[0]])
    rows = [f"{name:{width}}" + "".join(f"{classes[name][x]:9,}" for x in splits) for name in names]
    if len(names) < len(classes):
        rows.insert(TABLE // 2, f"... {len(classes) - len(names):,} more (all with --json) ...")
    return [" " * width + "".join(f"{x:>9}" for x in splits), *rows]


def told(samples: "VideoDataset", summary: dict[str, Any]) -> list[str]:
    """What `data` prints."""
    lines = [extent(samples), *class_table(summary["classes"])]
    left_out = {
        "named but not there": summary["missing"],
        "files that are no videos": summary["ignored"],
        **{f"unlabelled in {split}": count for split, count in summary["unlabelled"].items()},
    }
    if words := ", ".join(f"{count:,} {what}" for what, count in left_out.items() if count):
        lines.append(f"left out: {words}")
    if x := summary["seconds"]:
        span = f"seconds {x['min']:.1f} to {x['max']:.1f}, median {x['median']:.1f}"
        lines.append(f"{x['total'] / 3600:.2f} hours, {span}")
    if x := summary["frames"]:
        lines.append(f"frames {x['min']:,} to {x['max']:,}, median {x['median']:,.0f}")
    if found := [f"{size} ({count:,})" for size, count in summary["sizes"].items()]:
        more = f" and {counted(len(found) - SHOWN, 'other')}" if len(found) > SHOWN else ""
        lines.append(f"height x width {', '.join(found[:SHOWN])}{more}")
    wrong, broken = summary["wrong_lines"], summary["unreadable"]
    reasons = [f"{counted(wrong, 'complaint')} about the annotation"] * bool(wrong)
    if reasons := reasons + [f"{counted(broken, 'video')} that cannot be read"] * bool(broken):
        lines.append(f"{' and '.join(reasons)}: videossp doctor says more")
    return lines
