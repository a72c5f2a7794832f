"""Tables and plots about the methods: accuracy, differences, costs, learning rates."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from findings import by_row, chosen, good, holm, is_open, markdown, over_seeds, over_sets, search, seeds_apart
from matplotlib.figure import Figure
from paper import MODELLED, REPORTED, RIVALS, lead
from records import load
from rows import FIRST as FIRST_ROUND
from rows import FRAMES, GRIDS, ROWS, SEEDS, Cell, best_rate, kind_of

from videossp.comparison.results import merit

FIRST = next(iter(ROWS))  # the row that the others are compared with
MAIN = "tabletop"  # the set of the table of costs


def star(*titles: str, sets: Iterable[str]) -> str:
    """A star if rates of any of the rows remain to be tried on any of the sets."""
    return "*" if any(is_open(x, *titles) for x in sets) else ""


def accuracy(row: dict[str, Any] | None, mark: str = "") -> str:
    """Top-1 in per cent, its 95 % interval, and the number of seeds if there are several."""
    if not row:
        return ""
    top, low, high = (100 * row[key] for key in ("top1", "top1_low", "top1_high"))
    several = f"; {row['seeds']} seeds" if row["seeds"] > 1 else ""
    return f"{top:.1f}{mark} ({low:.1f} to {high:.1f}{several})"


def gap(row: dict[str, Any] | None, sign: int = 1, mark: str = "") -> str:
    """The paired difference to the first row, in points; with sign -1, that of the first row to this one."""
    if not row or row["difference"] is None:
        return ""
    half = (row["difference_high"] - row["difference_low"]) / 2
    points = round(100 * sign * row["difference"], 1) + 0.0  # turns -0.0 into 0.0
    return f"{points:+.1f} ± {100 * half:.1f}{mark}"


def bold(text: str, significant: bool) -> str:
    """The text, in bold if the difference that it shows is significant."""
    return f"**{text}**" if significant else text


def seeds() -> str:
    """Variation of the accuracy over seeds."""
    freedom, variance = seeds_apart()
    return markdown(
        ["degrees of freedom", "standard deviation, points", "19 of 20 runs are within, points"],
        [[f"{freedom}", f"{100 * math.sqrt(variance):.2f}", f"{100 * over_seeds():.1f}"]],
    )


def main_table() -> str:
    """Accuracy by row and set, and the mean over the sets."""
    known = {name: by_row(name, list(ROWS)) for name in FRAMES if load(name)}
    lines = []
    for title in ROWS:
        line = [title]
        for name, rows in known.items():
            line.append(accuracy(rows.get(title), star(title, sets=[name])))
        mean = over_sets((rows.get(title) for rows in known.values()), "top1")
        lines.append([*line, accuracy(mean, star(title, sets=known))])
    return markdown(["", *known, "all sets"], lines)


def differences(first: str) -> str:
    """Differences to a row, by set and in the mean, of rows whose rates are complete; bold: `holm`."""
    others = [x for x in ROWS if x != first]
    known = {name: by_row(name, [first, *others]) for name in FRAMES if load(name)}
    columns: dict[str, dict[str, dict[str, Any] | None]] = {
        name: {x: None if is_open(name, first, x) else rows.get(x) for x in others}
        for name, rows in known.items()
    }
    columns["all sets"] = {x: over_sets([rows[x] for rows in columns.values()], "difference") for x in others}
    significant = {name: holm(rows) for name, rows in columns.items()}
    lines = []
    for title in others:
        cells = (bold(gap(rows[title]), title in significant[name]) for name, rows in columns.items())
        lines.append([title, *cells])
    return markdown(["", *columns], lines)


def paper() -> str:
    """The lead of the first row over SVP and over the best of RIVALS, in the paper and here."""
    lines: list[list[str]] = []
    pairs: list[tuple[dict[str, Any] | None, dict[str, Any] | None]] = []
    for name, (original, _) in MODELLED.items():
        rows = by_row(name, [FIRST, *RIVALS])
        complete = all(x in rows for x in RIVALS) and not is_open(name, FIRST, *RIVALS)
        best = max(RIVALS, key=lambda x: rows[x]["top1"]) if complete else ""
        svp, other = None if is_open(name, FIRST, "svp") else rows.get("svp"), rows.get(best)
        pairs.append((svp, other))
        lines.append([original, f"{lead(name):+.2f}", name, gap(svp, -1), best, gap(other, -1)])
    means = [gap(over_sets(x, "difference"), -1) for x in zip(*pairs, strict=True)]
    mean = statistics.fmean(map(lead, MODELLED))
    lines.append(["all sets", f"{mean:+.2f}", "", means[0], "", means[1]])
    header = ["set of the paper", "lead over svp", "set here", "lead over svp", "best other", "lead over it"]
    return markdown(header, lines)


def reported() -> str:
    """The paper's table."""
    lines = [[name, *(f"{x:.2f}" for x in row)] for name, row in REPORTED.items()]
    return markdown(["", "parameters, M", "HMDB51", "SSV2", "UCF101", "Breakfast"], lines)


def costs(name: str = MAIN, titles: Sequence[str] = tuple(ROWS)) -> str:
    """Trainable parameters, time and memory of rows, on one set; times are of the fastest run."""
    known = [x for x in load(name) if not x["error"]]
    lines = []
    for title, row in by_row(name, titles).items():
        runs = [x for x in known if Cell(name, title, x["lr"], x["seed"]).of(x)]
        counts = (
            f"{row['method_parameters']:,}",
            f"{row['parameters']:,}",
            f"{row['parameters_percent']:.1f}",
        )
        clip, minutes = (min(x[key] for x in runs) for key in ("seconds_per_clip", "minutes"))
        sizes = f"{row['memory_gb']:.2f}", f"{row['adapter_mb']:.2f}"
        lines.append([title, *counts, f"{1000 * clip:.0f}", f"{minutes:.1f}", *sizes])
    parameters = "method parameters", "trainable", "% of all"
    return markdown(["", *parameters, "ms a clip", "minutes", "GB", "MB"], lines)


def by_rate() -> str:
    """Accuracy of the first seed by learning rate, one table per set; bold: chosen on validation."""
    tables = []
    for name in [x for x in FRAMES if load(x)]:
        lines = []
        for title in ROWS:
            tried = search(name, title)
            cells = {}
            for run in load(name):
                for lr in tried:
                    if Cell(name, title, lr, SEEDS[0]).of(run):
                        tops = (f"{100 * run[x]:.1f}" for x in ("val_top1", "top1") if not run["error"])
                        cells[lr] = " / ".join(tops) or "failed"
            if tried:
                best = best_rate(tried)
                cells[best] = f"**{cells[best]}**"
            lines.append([title, *(cells.get(lr, "") for lr in GRIDS[FIRST_ROUND])])
        tables.append(markdown([name, *(f"{x:g}" for x in GRIDS[FIRST_ROUND])], lines))
    return "\n\n".join(tables) or markdown([""], [])


def rules() -> str:
    """Two rules for choosing a rate, by loss and by accuracy, against the best rate on test; first seed.

    The number of rows in which the chosen rate is as good on test, and its mean gap to the best, in points.
    """
    sets = [x for x in FRAMES if load(x)]
    lines = [["rows with the best rate"], ["mean gap to the best rate, points"]]
    for name in sets:
        short = []
        for title in (x for x in ROWS if not is_open(name, x)):
            cells = [Cell(name, title, lr, SEEDS[0]) for lr in search(name, title)]
            runs = [x for x in load(name) if not x["error"] and any(cell.of(x) for cell in cells)]
            best = max(x["top1"] for x in runs)
            accurate = max(runs, key=lambda x: (x["val_top1"], -x["val_loss"]))
            short.append((best - max(runs, key=merit)["top1"], best - accurate["top1"]))
        ways = list(zip(*short, strict=True)) or [(), ()]
        lines[0].append(" / ".join(f"{way.count(0)}" for way in ways) + f" of {len(short)}")
        lines[1].append(" / ".join(f"{100 * statistics.fmean(way):.1f}" for way in ways if way))
    return markdown(["", *sets], lines)


def losses() -> str:
    """Cross-entropy on test by row and set, and its rank among all rows."""
    known = {}
    for name in [x for x in FRAMES if load(x)]:
        by_title = good(chosen(name, list(ROWS)))
        known[name] = {title: statistics.fmean(x["loss"] for x in runs) for title, runs in by_title.items()}
    lines = []
    for title in ROWS:
        line = [title]
        for name, rows in known.items():
            rank = sorted(rows, key=rows.__getitem__).index(title) + 1 if title in rows else 0
            line.append(f"{rows[title]:.3f}{star(title, sets=[name])} ({rank})" if rank else "")
        lines.append(line)
    return markdown(["", *known], lines)


def rising() -> str:
    """The number of runs of the table whose last epoch was the best on validation, by set."""
    known = {name: [*chain(*good(chosen(name, list(ROWS))).values())] for name in FRAMES if load(name)}
    last = [f"{sum(x['best_epoch'] == x['epochs'] for x in runs)}" for runs in known.values()]
    return markdown(
        ["", *known], [["runs", *(f"{len(x)}" for x in known.values())], ["last epoch best", *last]]
    )


def draw_table() -> Figure:
    """The rows of the first round; its first row in orange."""
    known = {name: rows for name in FRAMES if (rows := by_row(name, list(ROWS)))}
    return draw_rows(known, list(ROWS), FIRST)


def draw_rows(
    known: Mapping[str, Mapping[str, dict[str, Any]]], titles: Sequence[str], marked: str
) -> Figure:
    """Test accuracy and its interval by set and row; hollow: `is_open`; a line at the marked row.

    Args:
        known: by set, by row: its figures, see `by_row`.
        titles: the rows, from top to bottom.
        marked: the row in orange.
    """
    figure = Figure((2.2 + 2.2 * len(known), 0.6 + 0.24 * len(titles)), dpi=100, layout="constrained")
    for axes, (name, rows) in zip(
        figure.subplots(1, len(known), sharey=True, squeeze=False)[0], known.items(), strict=True
    ):
        heights = {title: -i for i, title in enumerate(titles)}
        for title in [x for x in titles if x in rows]:
            top, low, high = (100 * rows[title][key] for key in ("top1", "top1_low", "top1_high"))
            colour = "C1" if title == marked else "C0"
            axes.plot([low, high], 2 * [heights[title]], color=colour, linewidth=1.5)
            fill = "white" if is_open(name, title) else colour
            axes.plot(top, heights[title], "o", color=colour, markersize=4, markerfacecolor=fill)
        if marked in rows:
            axes.axvline(100 * rows[marked]["top1"], color="C1", linewidth=0.6, zorder=0)
        axes.set(title=kind_of(name), xlabel="test accuracy (%)", yticks=list(heights.values()))
        axes.set_yticklabels(heights)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
