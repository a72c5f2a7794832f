"""What the results of the mini benchmark say: rates that validation chose, figures of rows, probes."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from records import RESULTS, load, read
from rows import FRAMES, SEEDS, SEVERAL, Cell, Merit, base_of, best_rate, rates, tried_of

from videossp.comparison.intervals import NORMAL, over_videos, quantile, widened, wilson
from videossp.comparison.results import Comparison


def search(set_name: str, title: str) -> dict[float, Merit]:
    """By rate, the merits that choose the rate of a row of a set."""
    return tried_of(set_name, base_of(title), load(set_name))


def chosen(set_name: str, names: Sequence[str], seeds: Sequence[int] = SEEDS) -> Comparison:
    """The runs of a set at the rate that validation chose, as a comparison of rows to the first of them."""
    runs, kept = load(set_name), []
    for name in names:
        if tried := search(set_name, name):
            own = [Cell(set_name, name, best_rate(tried), seed) for seed in seeds]
            kept += [x | {"method": name} for x in runs for cell in own if cell.of(x)]
    return Comparison(tuple(names), tuple(seeds), {}, kept)


def good(comparison: Comparison) -> dict[str, list[dict[str, Any]]]:
    """By row that has some, the runs that did not fail."""
    own: dict[str, list[dict[str, Any]]] = {x: [] for x in comparison.methods}
    for run in comparison.runs:
        if run["error"] is None:
            own[run["method"]].append(run)
    return {title: runs for title, runs in own.items() if runs}


def by_row(set_name: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The figures of the rows of a set that have some; of accuracy and difference those of `bounds`."""
    comparison = chosen(set_name, names)
    own = good(comparison)
    rows = {x["method"]: x for x in comparison.rows if x["seeds"]}
    return {title: row | bounds(own[title], own.get(names[0], ())) for title, row in rows.items()}


def bounds(own: Sequence[Mapping[str, Any]], first: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """95 % bounds of the accuracy of some runs; their difference to those of another row, and its bounds.

    Of the videos (Wilson, Agresti & Min) and of the seeds, as far apart as `over_seeds` says. A difference is
    that of all runs of both rows, paired by video.
    """
    top = statistics.fmean(x["top1"] for x in own)
    low, high = widened(top, *wilson(top, own[0]["videos"]), over_seeds() / math.sqrt(len(own)))
    found = {"top1_low": max(0.0, low), "top1_high": min(1.0, high)}
    if own is first or not first:
        return found | dict.fromkeys(("difference", "difference_low", "difference_high"))
    mean, *ends = over_videos(gaps(own, first))
    low, high = widened(mean, *ends, over_seeds() * math.sqrt(1 / len(own) + 1 / len(first)))
    return found | {"difference": mean, "difference_low": low, "difference_high": high}


def shares(runs: Sequence[Mapping[str, Any]]) -> list[float]:
    """By video, the share of the runs that are right."""
    return [x.count("1") / len(runs) for x in zip(*(run["hits"] for run in runs), strict=True)]


def gaps(own: Sequence[Mapping[str, Any]], first: Sequence[Mapping[str, Any]]) -> list[float]:
    """By video, how much larger the share of some runs that are right is than that of others, -1 to 1."""
    return [a - b for a, b in zip(shares(own), shares(first), strict=True)]


def seeds_apart() -> tuple[int, float]:
    """Degrees of freedom and variance of the accuracy over seeds, pooled over the rows that have several.

    Of a row three seeds say little of it, one says nothing. Without the part that is seen only because runs
    disagree in single videos, of which there are not more: that is in the intervals of the videos already.
    """
    squares, freedom = 0.0, 0
    for name, titles in SEVERAL.items():
        for runs in good(chosen(name, titles)).values():
            disagreement = statistics.fmean(x * (1 - x) for x in shares(runs)) / runs[0]["videos"]
            squares += len(runs) * (statistics.pvariance(x["top1"] for x in runs) - disagreement)
            freedom += len(runs) - 1
    return freedom, max(0.0, squares / freedom) if freedom else 0.0


@cache
def over_seeds() -> float:
    """Half the 95 % interval of the accuracy of a run over seeds; 0.0 if no row has several."""
    freedom, variance = seeds_apart()
    return quantile(freedom) * math.sqrt(variance) if freedom else 0.0


def is_open(set_name: str, *titles: str) -> bool:
    """Whether rates of one of some rows are still to be tried on a set."""
    return any(rates(search(set_name, x)) for x in titles)


def over_sets(rows: Iterable[dict[str, Any] | None], key: str) -> dict[str, Any] | None:
    """The mean of a figure over all sets, as independent ones; None if one is not known yet."""
    known = [x for x in rows if x and x[key] is not None]
    if len(known) < len(FRAMES):
        return None
    mean = statistics.fmean(x[key] for x in known)
    low, high = (
        math.hypot(*(x[key + end] - x[key] for x in known)) / len(known) for end in ("_low", "_high")
    )
    return {key: mean, f"{key}_low": mean - low, f"{key}_high": mean + high, "seeds": 1}


def p_value(row: dict[str, Any]) -> float:
    """Two-sided, of a difference of nothing, from its interval taken as normal."""
    low, high = row["difference_low"], row["difference_high"]
    return math.erfc(NORMAL * abs(low + high) / (high - low) / math.sqrt(2))


def holm(rows: Mapping[str, dict[str, Any] | None], level: float = 0.05) -> set[str]:
    """Which differences are not nothing, though there are so many, those to come among them (Holm 1979)."""
    known = {x: p_value(row) for x, row in rows.items() if row and row["difference"] is not None}
    found: set[str] = set()
    for i, title in enumerate(sorted(known, key=known.__getitem__)):
        if known[title] > level / (len(rows) - i):
            break
        found.add(title)
    return found


def probed(set_name: str, backbone: str, view: str, features: str) -> list[dict[str, Any]]:
    """Probes of a set; of random weights there are several."""
    wanted = {"set": set_name, "view": view, "features": features}
    rows = (x for x in read(RESULTS / "probes.json") if wanted.items() <= x.items())
    return [x for x in rows if x["backbone"].split(",")[0] == backbone]


def course() -> list[dict[str, Any]]:
    """The records of the pretraining: of the trunk until the last stretch branches off, then its own."""
    last = read(RESULTS / "finish.jsonl")
    trunk = (x for x in read(RESULTS / "pretrain.jsonl") if not last or x["step"] < last[0]["step"])
    return [*trunk, *last]


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(x)} |" for x in lines)
