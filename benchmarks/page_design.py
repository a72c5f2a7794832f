"""Tables about the design of the second round: the reach of cls, and rows on validation."""

import statistics

from findings import is_open, markdown, search
from records import RESULTS, load_search, read
from rows import DESIGN, FRAMES, NEW, ROWS, SEEDS, Cell, best_rate

WAYS = {"0": "first quarter", "1": "second", "2": "third", "3": "last", "middle": "middle two exchanged"}
FEATURES = {"cls": "cls", "mean": "mean of all patches"}


def reach() -> str:
    """The relative change of a feature by the changed part of a clip."""
    rows = {(x["feature"], x["changed"]): x["change"] for x in read(RESULTS / "reach.json")}
    lines = [[text, *(f"{rows[name, way]:.2f}" for way in WAYS)] for name, text in FEATURES.items() if rows]
    return markdown(["changed", *WAYS.values()], lines)


def design() -> str:
    """Validation accuracy, loss and rate of the first seed by row and set."""
    sets = [f"{DESIGN}{x}" for x in FRAMES]
    lines = []
    for title in (*ROWS, *NEW):
        cells, losses, tops = [], [], []
        for name in sets:
            tried = {lr: x for lr, x in search(name, title).items() if x}
            if not tried:
                cells.append("")
                continue
            lr = best_rate(tried)
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
