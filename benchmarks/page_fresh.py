"""Tables and the plot of the fresh round: accuracy, differences of the new method, orders, camera footage."""

import statistics
from typing import Any

from findings import by_row, chosen, good, markdown, over_sets
from matplotlib.figure import Figure
from page_methods import accuracy, bold, draw_rows
from records import RESULTS, read
from rows import FINALISTS, FRAMES, FRESH, NEW, REAL, REAL_ROWS, ROWS

TITLES = (*FINALISTS, *(x for x in (*NEW, *ROWS) if x not in FINALISTS))
FOLDS = range(5)


def table() -> str:
    """Test accuracy by row and fresh set, and the mean over the sets; the best mean first."""
    known = {name: by_row(f"{FRESH}{name}", TITLES) for name in FRAMES}
    means = {x: over_sets((rows.get(x) for rows in known.values()), "top1") for x in TITLES}
    lines = [
        [title, *(accuracy(rows.get(title)) for rows in known.values()), accuracy(means[title])]
        for title in sorted(TITLES, key=lambda x: -(means[x] or {"top1": 0.0})["top1"])
        if any(title in rows for rows in known.values())
    ]
    return markdown(["", *FRAMES, "all sets"], lines)


def claim() -> str:
    """Differences of the new method to each row, in points, with 95 % intervals; bold: significant (Holm)."""
    rows = {(x["rival"], x["set"]): x for x in read(RESULTS / "claim.json")}
    means = {rival: x["difference"] for (rival, name), x in rows.items() if name == "all"}
    rivals = sorted({rival for rival, _ in rows}, key=lambda x: (x not in means, means.get(x, 0.0), x))
    lines = []
    for rival in rivals:
        cells = []
        for name in (*FRAMES, "all"):
            x = rows.get((rival, name))
            points = (100 * x[key] for key in ("difference", "low", "high")) if x else ()
            cells.append(bold("{:+.1f} ({:+.1f} to {:+.1f})".format(*points), x["significant"]) if x else "")
        lines.append([rival, *cells])
    return markdown(["", *FRAMES, "all sets"], lines)


def orders() -> str:
    """Accuracy on recipes in per cent: of the class, its pair, and the order of the middle two parts."""
    lines = []
    for title, runs in good(chosen(f"{FRESH}recipes", TITLES)).items():
        parts = (statistics.fmean(x[key] for x in runs) for key in ("top1", "pair_top1", "middle_top1"))
        lines.append([title, *(f"{100 * x:.1f}" for x in parts)])
    return markdown(["", "class, of 8", "pair, of 4", "order of the middle, of 2"], lines)


def footage() -> str:
    """Accuracy on camera footage in per cent: mean over the folds that were run, and their range."""
    lines = []
    for title in REAL_ROWS:
        cells = []
        for name in ("lips_words", "lips_letters"):
            tops = [x["top1"] for fold in FOLDS for x in of_fold(f"{REAL}{name}_{fold}", title)]
            ends = f" ({100 * min(tops):.0f} to {100 * max(tops):.0f}; {len(tops)} folds)" if tops else ""
            cells.append(f"{100 * statistics.fmean(tops):.1f}{ends}" if tops else "")
        lines += [[title, *cells]] if any(cells) else []
    return markdown(["", "lips_words", "lips_letters"], lines)


def of_fold(set_name: str, title: str) -> list[dict[str, Any]]:
    """The runs of a row on a fold, at the rate that the validation of fold 0 chose."""
    return good(chosen(set_name, [title])).get(title, [])


def draw() -> Figure:
    """The rows that have runs of all fresh sets, the best mean at the top; the new method in orange."""
    known = {f"{FRESH}{name}": by_row(f"{FRESH}{name}", TITLES) for name in FRAMES}
    titles = [x for x in TITLES if all(x in rows for rows in known.values())]
    titles.sort(key=lambda x: -statistics.fmean(rows[x]["top1"] for rows in known.values()))
    return draw_rows(known, titles, FINALISTS[0])
