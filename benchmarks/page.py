"""Write the tables and plots of docs/benchmarks.md and docs/weights.md anew, from benchmarks/results/.

    python benchmarks/page.py

What stands between `<!-- NAME -->` and `<!-- end -->` in these pages is made here and nowhere else.
"""

import io
import json
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from table import ABLATED, ABLATIONS, FRAMES, RESULTS, ROWS, SEEDS, best_rate, load

from videossp.comparison import Comparison
from videossp.files import replace_file

DOCS = Path(__file__).parent.parent / "docs"
FIRST = next(iter(ROWS))  # what the others are compared with
BLOCK = re.compile(r"<!-- ([a-z -]+) -->\n.*?<!-- end -->", re.DOTALL)


def read(name: str) -> list[dict[str, Any]]:
    """The rows of a file of results; none if it is not there."""
    file = RESULTS / name
    if not file.exists():
        return []
    text = file.read_text(encoding="utf-8")
    return [json.loads(x) for x in text.splitlines()] if name.endswith("l") else json.loads(text)


def chosen(set_name: str, names: Sequence[str]) -> Comparison:
    """The runs of a set at the rate that validation chose, as a comparison of rows."""
    runs = load(set_name)
    kept, found = [], []
    for name in names:
        mine = [x for x in runs if x["row"] == name]
        tried = {x["lr"]: x["val_top1"] for x in mine if x["seed"] == SEEDS[0]}
        if tried:
            found.append(name)
            kept += [x | {"method": name} for x in mine if x["lr"] == best_rate(tried)]
    return Comparison(tuple(found), SEEDS, {}, kept)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(x)} |" for x in lines)


def accuracy(row: dict[str, Any]) -> str:
    """Top-1 in per cent, half of its 95 % interval, runs if there are several."""
    half = 50 * (row["top1_high"] - row["top1_low"])
    several = f" ({row['seeds']})" if row["seeds"] > 1 else ""
    return f"{100 * row['top1']:.1f} ± {half:.1f}{several}"


def gap(row: dict[str, Any]) -> str:
    """The paired difference to the first row, in points."""
    if row["difference"] is None:
        return ""
    half = row["difference_high"] - row["difference"]
    return f"{100 * row['difference']:+.1f} ± {100 * half:.1f}"


def main_table() -> str:
    """Accuracy by row and set, the mean over the sets, and the difference to the first row."""
    found = {name: chosen(name, list(ROWS)).rows for name in FRAMES if load(name)}
    by = {name: {x["method"]: x for x in rows} for name, rows in found.items()}
    lines = []
    for title in ROWS:
        own = [rows.get(title) for rows in by.values()]
        cells = [f"{accuracy(x)}; {gap(x)}".removesuffix("; ") if x else "" for x in own]
        tops = [x["top1"] for x in own if x]
        mean = f"{100 * statistics.fmean(tops):.1f}" if len(tops) == len(by) else ""
        lines.append([title, *cells, *([mean] if len(by) > 1 else [])])
    return table(["", *by, *(["mean"] if len(by) > 1 else [])], lines)


def costs() -> str:
    """What a row trains and takes, on the set of the ablations."""
    rates = {x["row"]: x["lr"] for x in chosen(ABLATED, list(ROWS)).runs}
    minutes: dict[str, list[float]] = {}
    for run in chosen(ABLATED, list(ROWS)).runs:
        minutes.setdefault(run["row"], []).append(run["minutes"])
    lines = [
        [
            row["method"],
            f"{row['method_parameters']:,}",
            f"{row['parameters']:,}",
            f"{row['parameters_percent']:.1f}",
            f"{rates[row['method']]:g}",
            f"{1000 * row['seconds_per_clip']:.0f}",
            f"{statistics.fmean(minutes[row['method']]):.1f}",
            f"{row['memory_gb']:.2f}",
            f"{row['adapter_mb']:.2f}",
        ]
        for row in chosen(ABLATED, list(ROWS)).rows
    ]
    head = [
        "",
        "weights of the method",
        "all that train",
        "% of all",
        "rate",
        "ms a clip",
        "minutes",
        "GB",
        "MB",
    ]
    return table(head, lines)


def ablations() -> str:
    """SSP with one thing changed."""
    rows = chosen(ABLATED, [FIRST, *ABLATIONS]).rows
    return table(
        ["", ABLATED, "to ssp", "weights of the method"],
        [[x["method"], accuracy(x), gap(x), f"{x['method_parameters']:,}"] for x in rows],
    )


def probes() -> str:
    """Linear probes, by set and view."""
    lines = []
    for name in FRAMES:
        rows = [x for x in read("probes.json") if x["set"] == name]
        titles = list(dict.fromkeys((x["view"], x["backbone"].split(",")[0]) for x in rows))
        for view, backbone in titles:
            cells = []
            for key in ("cls", "cls+mean"):
                mine = [
                    x
                    for x in rows
                    if (x["view"], x["features"]) == (view, key) and x["backbone"].startswith(backbone)
                ]
                cells.append("; ".join(f"{100 * x['top1']:.1f}" for x in mine))
                pairs = [x["in_pairs"] for x in mine if "in_pairs" in x]
                cells.append("; ".join(f"{100 * x:.1f}" for x in pairs))
            lines.append([name, backbone, view, *cells])
    return table(["set", "weights", "view", "cls", "in pairs", "cls+mean", "in pairs"], lines)


def pretraining() -> str:
    """The moving average on held-out clips, on the way."""
    lines = []
    for file in ("pretrain.jsonl", "finish.jsonl"):
        lines += [
            [
                f"{x['step']:,}",
                f"{x['clips']:,}",
                str(x["frames"]),
                f"{x['seconds'] / 60:.0f}",
                *(f"{100 * x['held_out'][key]:.1f}" for key in ("label", "task", "direction", "way")),
            ]
            for x in read(file)
            if "held_out" in x
        ]
    head = [
        "steps",
        "clips",
        "frames shown",
        "minutes",
        "48 labels",
        "task",
        "direction, given the task",
        "way",
    ]
    return table(head, lines)


BLOCKS: dict[str, Callable[[], str]] = {
    "table": main_table,
    "costs": costs,
    "ablations": ablations,
    "probes": probes,
    "pretraining": pretraining,
}


def renewed(text: str) -> str:
    """A page with its blocks made anew."""
    return BLOCK.sub(lambda x: f"<!-- {x[1]} -->\n{BLOCKS[x[1]]()}\n<!-- end -->", text)


def draw_pretraining() -> Figure:
    """Accuracy on held-out clips and the parts of the loss, by minutes."""
    figure = Figure((9, 3.2), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    records = read("pretrain.jsonl") + read("finish.jsonl")
    held = [x for x in records if "held_out" in x]
    names = {"label": "48 labels", "task": "task", "direction": "direction, given the task"}
    for key, name in names.items():
        minutes = [x["seconds"] / 60 for x in held]
        left.plot(minutes, [100 * x["held_out"][key] for x in held], ".-", label=name)
    for key in ("cls", "mean", "where", "course"):
        right.plot([x["seconds"] / 60 for x in records], [x[key] for x in records], label=key)
    before = None
    for x in records:
        if x["frames"] != before:
            for axes in (left, right):
                axes.axvline(x["seconds"] / 60, color="0.8", linewidth=0.8, zorder=0)
            right.annotate(
                f"{x['frames']}", (x["seconds"] / 60, 1), xycoords=("data", "axes fraction"), va="top"
            )
            before = x["frames"]
    left.set(xlabel="minutes", ylabel="held out, moving average (%)", ylim=(0, 100))
    right.set(xlabel="minutes; numbers: frames shown", ylabel="parts of the training loss", yscale="log")
    for axes in (left, right):
        axes.legend(fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    for page in (DOCS / "benchmarks.md", DOCS / "weights.md"):
        if page.exists():
            replace_file(page, renewed(page.read_text(encoding="utf-8")))
    if read("pretrain.jsonl"):
        picture = io.BytesIO()
        draw_pretraining().savefig(picture, format="png")
        replace_file(DOCS / "pretraining.png", picture.getvalue())


if __name__ == "__main__":
    main()
