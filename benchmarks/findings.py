"""What the results of the mini benchmark say: rates that validation chose, figures of rows, probes."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from records import RESULTS, load, read
from rows import FRAMES, SEEDS, SEVERAL, Cell, Merit, base_of, best_rate, rates, tried_of

from videossp.comparison import NORMAL, Comparison, over_videos, paired, quantile, wilson


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


def by_row(set_name: str, names: Sequence[str], seeds: Sequence[int] = SEEDS) -> dict[str, dict[str, Any]]:
    """The figures of the rows of a set that have some, with `intervals`."""
    comparison = chosen(set_name, names, seeds)
    own = {x: [run for run in good(comparison) if run["method"] == x] for x in names}
    rows = {x["method"]: x for x in comparison.rows if own[x["method"]]}
    return {title: row | intervals(own[title], own[names[0]]) for title, row in rows.items()}


def good(comparison: Comparison) -> list[dict[str, Any]]:
    """The runs that did not fail."""
    return [x for x in comparison.runs if x["error"] is None]


def intervals(own: Sequence[Mapping[str, Any]], first: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Those of the accuracy of a row, and of its difference to the first one if they share seeds.

    Of the videos (Wilson, Agresti & Min) and of the seeds, `between_seeds`, which are independent. So rows
    with one seed do not seem surer than those with several.
    """
    top, half = statistics.fmean(x["top1"] for x in own), between_seeds()
    low, high = (math.hypot(top - x, half / math.sqrt(len(own))) for x in wilson(top, own[0]["videos"]))
    found = {"top1_low": max(0.0, top - low), "top1_high": min(1.0, top + high)}
    if own is not first and (gaps := paired(own, first)):
        mean, *ends = over_videos(gaps)
        both = half * math.sqrt(2 / len(gaps))  # each of the two rows is of a run that may go well or badly
        low, high = (math.hypot(mean - x, both) for x in ends)
        found |= {"difference_low": mean - low, "difference_high": mean + high}
    return found


@cache
def between_seeds() -> float:
    """Half the 95 % interval of the accuracy of a run over seeds; 0.0 if no row has several.

    One for all: of a row, three seeds say little of how far seeds lie apart (Student with two degrees of
    freedom), and one seed nothing. So the variances of all rows that have several are pooled.
    """
    squares, freedom = 0.0, 0
    for name, titles in SEVERAL.items():
        runs = good(chosen(name, titles))
        for tops in ([x["top1"] for x in runs if x["method"] == title] for title in titles):
            if len(tops) > 1:
                squares += statistics.variance(tops) * (len(tops) - 1)
                freedom += len(tops) - 1
    return quantile(freedom) * math.sqrt(squares / freedom) if freedom else 0.0


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
    """Which differences are not nothing, though there are so many of them (Holm 1979)."""
    known = {x: p_value(row) for x, row in rows.items() if row and row["difference"] is not None}
    found: set[str] = set()
    for i, title in enumerate(sorted(known, key=known.__getitem__)):
        if known[title] > level / (len(known) - i):
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
