"""Tables about the design of the second round: the reach of cls, and rows on validation."""

import statistics
from collections.abc import Sequence

from findings import is_open, markdown, search
from records import RESULTS, load_search, read
from rows import DESIGN, FINALISTS, FRAMES, NEW, ROWS, SEEDS, TRIED, Cell, best_rate

WAYS = {"0": "first quarter", "1": "second", "2": "third", "3": "last", "middle": "middle two exchanged"}
FEATURES = {"cls": "cls", "mean": "mean of all patches"}


def reach() -> str:
    """The relative change of a feature by the changed part of a clip."""
    rows = {(x["feature"], x["changed"]): x["change"] for x in read(RESULTS / "reach.json")}
    lines = [[text, *(f"{rows[name, way]:.2f}" for way in WAYS)] for name, text in FEATURES.items() if rows]
    return markdown(["changed", *WAYS.values()], lines)


def design() -> str:
    """Rows of the table on validation."""
    return on_validation([*ROWS, *NEW])


def tried() -> str:
    """The new method, without one of its parts or with a candidate for a part, on validation."""
    return on_validation([FINALISTS[0], *TRIED])


def on_validation(titles: Sequence[str]) -> str:
    """Validation accuracy, loss and rate of the first seed by row and set, at the rate of the lowest loss."""
    sets = [f"{DESIGN}{x}" for x in FRAMES]
    lines = []
    for title in titles:
        cells, losses, tops = [], [], []
        for name in sets:
            known = {lr: x for lr, x in search(name, title).items() if x}
            if not known:
                cells.append("")
                continue
            lr = best_rate(known)
            cell = Cell(name, title, lr, SEEDS[0])
            run = next(x for x in reversed(load_search(name)) if cell.of(x))
            if run["error"]:
                cells.append("failed")
                continue
            losses.append(run["val_loss"])
            tops.append(run["val_top1"])
            star = "*" if is_open(name, title) else ""
            cells.append(f"{100 * run['val_top1']:.1f}{star}, {run['val_loss']:.3f} ({lr:g})")
        if losses:
            complete = len(losses) == len(sets)
            mean = f"{100 * statistics.fmean(tops):.1f}, {statistics.fmean(losses):.3f}" if complete else ""
            lines.append([title, *cells, mean])
    return markdown(["", *FRAMES, "all sets"], lines)
