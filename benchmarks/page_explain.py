"""The tables of docs/explain.md, from benchmarks/results/explain.json."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from records import RESULTS, read

SETS = ("tabletop", "motion", "sprites")
FILLS = {"mean_colour": "mean colour", "median_frame": "median frame"}
RULES = ("squares", "refined", "middles", "gauss_legendre", "stopped")
Row = dict[str, Any]


def rows_of(kind: str) -> list[Row]:
    return [x for x in read(RESULTS / "explain.json") if x["kind"] == kind]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval by the normal approximation."""
    half = 1.96 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), half


def beyond(row: Row) -> str:
    mean, half = interval(row["beyond"])
    return f"{mean:+.2f} ± {half:.2f}"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = list(header)
    lines = [header, ["---"] * len(header), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def chosen() -> str:
    """By map, the mean over the sets on the validation clips, for each fill; best first."""
    found: dict[str, dict[str, list[float]]] = {}
    for x in rows_of("faithful"):
        if x["split"] == "val" and x["cells"] == "patches":
            found.setdefault(x["map"], {}).setdefault(x["fill"], []).append(statistics.fmean(x["beyond"]))
    means = {name: [statistics.fmean(by_fill[fill]) for fill in FILLS] for name, by_fill in found.items()}
    order = sorted(means, key=lambda name: -sum(means[name]))
    lines = [[name, *(f"{x:+.2f}" for x in means[name]), f"{sum(means[name]) / 2:+.2f}"] for name in order]
    return table(["map", *(f"fill: {x}" for x in FILLS.values()), "mean"], lines)


def confirmed(cells: str) -> Callable[[], str]:
    """The table of the test clips, by set and fill, in the order of the mean."""

    def make() -> str:
        found: dict[str, dict[tuple[str, str], Row]] = {}
        for x in rows_of("faithful"):
            if x["split"] == "test" and x["cells"] == cells:
                found.setdefault(x["map"], {})[x["set"], x["fill"]] = x

        def mean(name: str) -> float:
            return statistics.fmean(statistics.fmean(x["beyond"]) for x in found[name].values())

        columns = [(name, fill) for fill in FILLS for name in SETS]
        lines = [
            [name, *(beyond(found[name][x]) if x in found[name] else "" for x in columns)]
            for name in sorted(found, key=lambda name: -mean(name))
        ]
        return table(["map", *(f"{name}, {FILLS[fill]}" for name, fill in columns)], lines)

    return make


def sanity() -> str:
    """Rank correlation with the maps of randomised models, from the head downwards."""
    rows = [x for x in rows_of("sanity") if "stages" in x]
    stages = rows[0]["stages"] if rows else []
    lines = [[x["map"], *(f"{c:.2f}" for c in x["correlation"])] for x in rows]
    return table(["map", *stages], lines)


AGREEING = 8  # maps in the table of agreement, which has a column for each


def agreement() -> str:
    """Rank correlation between maps of the same clip."""
    rows = [
        x
        for x in rows_of("sanity")
        if "others" in x and "4 steps" not in x["map"] and "(no model)" not in x["map"]
    ]
    names = [x["map"] for x in rows][:AGREEING]
    lines = []
    for i, row in enumerate(rows[:AGREEING], 1):
        values = dict(zip(row["others"], row["agreement"], strict=True))
        lines.append([f"{i}", row["map"], *(f"{values[x]:.2f}" for x in names)])
    return table(["", "map", *(f"{i}" for i in range(1, len(names) + 1))], lines)


def gaps() -> str:
    """Error of the sum, in per cent of the change of the logit: median over all clips, and the largest."""
    found: dict[tuple[str, str], dict[int, list[float]]] = {}
    for x in rows_of("gaps"):
        found.setdefault((x["fill"], x["nodes"]), {}).setdefault(x["steps"], []).extend(x["errors"])
    steps = sorted({n for by_steps in found.values() for n in by_steps})
    lines = []
    for fill in FILLS:
        for rule in RULES:
            errors = found.get((fill, rule), {})
            cells = [
                f"{100 * statistics.median(errors[n]):.1f} ({100 * max(errors[n]):.0f})"
                if n in errors
                else ""
                for n in steps
            ]
            if errors:
                lines.append([FILLS[fill], rule.replace("_", "-"), *cells])
    return table(["baseline", "places", *(f"{n} steps" for n in steps)], lines)
