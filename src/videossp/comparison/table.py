"""A comparison as lines of text."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videossp.comparison.results import Comparison


def table_lines(comparison: "Comparison") -> list[str]:
    """The rows of a comparison, its failures, and how the figures were made."""
    rows, methods = comparison.rows, comparison.methods
    header = ("method", "lr", "seeds", "trained (M)", "of all (%)", "top-1 (%)", f"- {methods[0]} (points)")
    cells = [(*header, "s/clip", "GB", "adapter (MB)"), *map(row_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells
    ]
    lines += [
        f"FAILED {run['method']}, lr {run['lr']:g}, seed {run['seed']}: {run['error']}"
        for run in comparison.failed
    ]
    split = comparison.settings["evaluated_on"]
    selected = "" if split == "test" else ", which also selected epoch and lr: there is no test split"
    intervals = "; ".join(sorted({row["interval"] for row in rows} - {None})) or "none"
    return [
        *lines,
        "",
        f"top-1 on the split {split}{selected}; 95 % interval: {intervals}",
        "difference to the first method: paired by seed and video, with its 95 % interval",
        "trained: with head and final norm; s/clip: training, after the first epoch; GB: peak of a run",
        rates_line(comparison),
        *(f"note: {x}" for x in comparison.settings.get("notes", ())),
    ]


def rates_line(comparison: "Comparison") -> str:
    """How the learning rates were selected."""
    tried = {method: list(comparison.merits(method)) for method in comparison.methods}
    rates = sorted({lr for lrs in tried.values() for lr in lrs})
    if max(map(len, tried.values())) < 2:
        shared = "the same for all methods" if len(rates) < 2 else "the default of each method"
        return f"lr: {shared}; with several, --lr 0.001,0.003,0.01, each method gets its best on validation"
    at_end = [x for x in comparison.methods if comparison.lr_of(x) in (rates[0], rates[-1])]
    further = f"; at an end of these: {', '.join(at_end)}; try further rates" if at_end else ""
    listed = ", ".join(f"{x:g}" for x in rates)
    return (
        f"lr: lowest loss of {listed} on the split that selected the epoch, with seed {comparison.seeds[0]}"
        f"{further}"
    )


def row_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of a row of the table."""
    seeds = str(row["seeds"]) + (f" of {row['seeds'] + row['failed']}" if row["failed"] else "")
    lr = "-" if row["lr"] is None else f"{row['lr']:g}"
    if not row["seeds"]:
        return (row["method"], lr, seeds, *["-"] * 7)
    top1, low, high = (100 * row[name] for name in ("top1", "top1_low", "top1_high"))
    difference = ""
    if row["difference"] is not None:
        gap, least, most = (100 * row[f"difference{end}"] for end in ("", "_low", "_high"))
        difference = f"{gap:+.1f} ({least:+.1f} to {most:+.1f})"
    return (
        row["method"],
        lr,
        seeds,
        f"{row['parameters_m']:.4f}",
        f"{row['parameters_percent']:.3f}",
        f"{top1:.1f} ({low:.1f} to {high:.1f})",
        difference,
        f"{row['seconds_per_clip']:.3f}",
        f"{row['memory_gb']:.2f}",
        f"{row['adapter_mb']:.3f}",
    )
