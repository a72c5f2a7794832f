"""Evaluation of the results of the mini benchmark: rates chosen on validation, figures of rows, probes."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from records import RESULTS, load, load_search, read
from rows import FRAMES, FRESH_SEEDS, SEVERAL, Cell, Merit, base_of, best_rate, rates, search_of, tried_of

from videossp.comparison.intervals import NORMAL, over_videos, quantile, widened, wilson
from videossp.comparison.results import Comparison


def search(set_name: str, title: str) -> dict[float, Merit]:
    """Merit by rate: it chooses the rate of a row of a set."""
    return tried_of(search_of(set_name), base_of(title), load_search(set_name))


def chosen(set_name: str, names: Sequence[str], seeds: Sequence[int] = FRESH_SEEDS) -> Comparison:
    """The runs of a set at the rates that validation chose, as a comparison to the first row."""
    runs, selected = load(set_name), []
    for name in names:
        if tried := search(set_name, name):
            cells = [Cell(set_name, name, best_rate(tried), seed) for seed in seeds]
            selected += [x | {"method": name} for x in runs for cell in cells if cell.of(x)]
    return Comparison(tuple(names), tuple(seeds), {}, selected)


def good(comparison: Comparison) -> dict[str, list[dict[str, Any]]]:
    """The runs that did not fail, by row; rows without such a run are left out."""
    by_title: dict[str, list[dict[str, Any]]] = {x: [] for x in comparison.methods}
    for run in comparison.runs:
        if run["error"] is None:
            by_title[run["method"]].append(run)
    return {title: runs for title, runs in by_title.items() if runs}


def by_row(set_name: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The figures of the rows of a set that have runs, with the intervals of `bounds`."""
    comparison = chosen(set_name, names)
    runs = good(comparison)
    rows = {x["method"]: x for x in comparison.rows if x["seeds"]}
    return {title: row | bounds(runs[title], runs.get(names[0], ())) for title, row in rows.items()}


def bounds(runs: Sequence[Mapping[str, Any]], first: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """95 % interval of the accuracy of a row, and its difference to the row `first` with its interval.

    The intervals are over videos (Wilson; Agresti & Min) and over seeds (`over_seeds`). The difference is
    over all runs of both rows, paired by video.
    """
    top = statistics.fmean(x["top1"] for x in runs)
    low, high = widened(top, *wilson(top, runs[0]["videos"]), over_seeds() / math.sqrt(len(runs)))
    accuracy = {"top1_low": max(0.0, low), "top1_high": min(1.0, high)}
    if runs is first or not first:
        return accuracy | dict.fromkeys(("difference", "difference_low", "difference_high"))
    mean, *ends = over_videos(gaps(runs, first))
    low, high = widened(mean, *ends, over_seeds() * math.sqrt(1 / len(runs) + 1 / len(first)))
    return accuracy | {"difference": mean, "difference_low": low, "difference_high": high}


def shares(runs: Sequence[Mapping[str, Any]]) -> list[float]:
    """For each video, the share of the runs that classify it correctly."""
    return [x.count("1") / len(runs) for x in zip(*(run["hits"] for run in runs), strict=True)]


def gaps(runs: Sequence[Mapping[str, Any]], first: Sequence[Mapping[str, Any]]) -> list[float]:
    """For each video, the difference of the `shares` of two groups of runs, -1 to 1."""
    return [a - b for a, b in zip(shares(runs), shares(first), strict=True)]


def seeds_apart() -> tuple[int, float]:
    """`pooled` over the rows with several seeds of the first round."""
    return pooled(runs for name, titles in SEVERAL.items() for runs in good(chosen(name, titles)).values())


def pooled(groups: Iterable[Sequence[Mapping[str, Any]]]) -> tuple[int, float]:
    """Degrees of freedom and variance of the accuracy over seeds, pooled over rows with several seeds.

    Pooled, because a few seeds of one row estimate the variance badly and one seed not at all. The part of
    the variance from single videos is subtracted: the intervals over videos already contain it.

    Args:
        groups: the runs of each row.
    """
    squares, freedom = 0.0, 0
    for runs in groups:
        by_video = shares(runs)
        disagreement = statistics.fmean(x * (1 - x) for x in by_video) / len(by_video)
        tops = [run["hits"].count("1") / len(by_video) for run in runs]
        squares += len(runs) * (statistics.pvariance(tops) - disagreement)
        freedom += len(runs) - 1
    return freedom, max(0.0, squares / freedom) if freedom else 0.0


@cache
def over_seeds() -> float:
    """Half the 95 % interval of the accuracy of one run over seeds; 0.0 if no row has several seeds."""
    freedom, variance = seeds_apart()
    return quantile(freedom) * math.sqrt(variance) if freedom else 0.0


def is_open(set_name: str, *titles: str) -> bool:
    """Whether rates of any of the rows remain to be tried on a set."""
    return any(rates(search_of(set_name), search(set_name, x)) for x in titles)


def over_sets(rows: Iterable[dict[str, Any] | None], key: str) -> dict[str, Any] | None:
    """The mean of a figure over all sets, taken as independent; None if one is missing."""
    known = [x for x in rows if x and x[key] is not None]
    if len(known) < len(FRAMES):
        return None
    mean = statistics.fmean(x[key] for x in known)
    low, high = (
        math.hypot(*(x[key + end] - x[key] for x in known)) / len(known) for end in ("_low", "_high")
    )
    return {key: mean, f"{key}_low": mean - low, f"{key}_high": mean + high, "seeds": 1}


def p_value(row: dict[str, Any]) -> float:
    """Two-sided p-value of a difference, from its interval, which is taken as normal."""
    low, high = row["difference_low"], row["difference_high"]
    return math.erfc(NORMAL * abs(low + high) / (high - low) / math.sqrt(2))


def holm(rows: Mapping[str, dict[str, Any] | None]) -> set[str]:
    """Rows with a significant difference after Holm's correction, which also counts missing rows."""
    known = {x: p_value(row) for x, row in rows.items() if row and row["difference"] is not None}
    return significant(known, len(rows))


def significant(p_values: Mapping[str, float], count: int, level: float = 0.05) -> set[str]:
    """The names whose p-value is significant among `count` tests, after Holm's correction (1979)."""
    found: set[str] = set()
    for i, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        if p_values[name] > level / (count - i):
            break
        found.add(name)
    return found


def probed(set_name: str, backbone: str, view: str, features: str) -> list[dict[str, Any]]:
    """Probes of a set by backbone, view and features; random weights have several."""
    wanted = {"set": set_name, "view": view, "features": features}
    rows = (x for x in read(RESULTS / "probes.json") if wanted.items() <= x.items())
    return [x for x in rows if x["backbone"].split(",")[0] == backbone]


def pretraining_log() -> list[dict[str, Any]]:
    """The log of the pretraining: the trunk until the decay phase branches off, then the decay phase."""
    decay = read(RESULTS / "finish.jsonl")
    trunk = (x for x in read(RESULTS / "pretrain.jsonl") if not decay or x["step"] < decay[0]["step"])
    return [*trunk, *decay]


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(x)} |" for x in lines)
