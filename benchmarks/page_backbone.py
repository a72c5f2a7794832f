"""Tables and plots about the backbone: its pretraining, and linear probes of it."""

from collections.abc import Sequence
from typing import Any

from findings import markdown, pretraining_log, probed
from matplotlib.figure import Figure
from records import RESULTS, read
from rows import BACKBONE, FRAMES

MAIN = "tabletop"  # the set whose probes are shown in full


def percent(rows: Sequence[dict[str, Any]], key: str) -> str:
    """One figure of several probes, in per cent."""
    return "; ".join(f"{100 * x[key]:.1f}" for x in rows if key in x)


def probes() -> str:
    """Linear probes of one set, by weights and view."""
    rows = [x for x in read(RESULTS / "probes.json") if x["set"] == MAIN]
    lines = []
    for backbone, view in dict.fromkeys((x["backbone"].split(",")[0], x["view"]) for x in rows):
        both = [probed(MAIN, backbone, view, features) for features in ("cls", "cls+mean")]
        lines.append([backbone, view, *(percent(x, key) for x in both for key in ("top1", "in_pairs"))])
    return markdown(["weights", "view", "cls", "in pairs", "cls+mean", "in pairs"], lines)


def sources() -> str:
    """Probes of cls on whole clips, by weights and set."""
    names = dict.fromkeys(x["backbone"].split(",")[0] for x in read(RESULTS / "probes.json"))
    lines = [[name, *(percent(probed(x, name, "clip", "cls"), "top1") for x in FRAMES)] for name in names]
    return markdown(["weights", *FRAMES], lines)


def views() -> str:
    """How much each set depends on time: probes of cls on the bundled weights, by set and view."""
    names = list(dict.fromkeys(x["view"] for x in read(RESULTS / "probes.json")))
    random = [percent(probed(x, "random", "clip", "cls"), "top1") for x in FRAMES]
    bundled = [[percent(probed(x, BACKBONE, view, "cls"), "top1") for view in names] for x in FRAMES]
    lines = [[x, *row, other] for x, row, other in zip(FRAMES, bundled, random, strict=True) if any(row)]
    return markdown(["", *names, "clip, random weights"], lines)


HELD_OUT = ("labels", "robots", "people", "task", "direction, given the task", "displacement")


def held_out(record: dict[str, Any]) -> list[str]:
    """Columns of HELD_OUT, in per cent."""
    figures = record["held_out"]
    values = (figures[key] for key in ("label", "task", "direction", "way"))
    label, *rest = values
    return [f"{100 * x:.1f}" for x in (label, *figures["sets"], *rest)]


def pretraining() -> str:
    """Figures of the moving average on held-out clips, by step."""
    lines = [
        [
            f"{x['step']:,}",
            f"{x['clips']:,}",
            str(x["frames"]),
            f"{x['seconds'] / 60:.0f}",
            *held_out(x),
        ]
        for x in pretraining_log()
        if "held_out" in x
    ]
    return markdown(["steps", "clips", "frames shown", "minutes", *HELD_OUT], lines)


def draw_pretraining() -> Figure:
    """Accuracy on held-out clips and the parts of the loss, by minutes."""
    figure = Figure((9, 3.2), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    records = pretraining_log()
    held = [x for x in records if "held_out" in x]
    names = {"label": "labels", "task": "task", "direction": "direction, given the task"}
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
