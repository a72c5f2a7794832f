"""Pictures and a page of what a run did."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from videossp.evaluate import Evaluation


def draw_curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Training loss and validation accuracy by epoch, as a PNG."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    left.plot(epochs, [row["loss"] for row in history], marker=".")
    left.set(xlabel="epoch", ylabel="training loss (nats)", ylim=(0, None))
    right.plot(epochs, [100 * row["val_top1"] for row in history], marker=".", color="tab:green")
    right.set(xlabel="epoch", ylabel="validation top-1 (%)", ylim=(0, 102))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def draw_confusion(evaluation: Evaluation, path: Path) -> None:
    """Confusion matrix as a PNG, in videos: rows are the true classes, columns the predicted ones."""
    matrix = evaluation.confusion
    names = [name.replace("$", r"\$") for name in evaluation.classes]  # a bare $ would begin a formula
    side = min(30.0, max(3.5, 1.8 + 0.32 * len(names)))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(matrix.numpy(), cmap="Blues", vmin=0)
    ticks = range(len(names))
    if len(names) <= 100:
        axes.set_xticks(ticks, names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(ticks, names)
    axes.set(xlabel="predicted", ylabel="true", title=f"top-1 {100 * evaluation.top(1):.1f} %")
    if len(names) <= 30:
        for row in ticks:
            for column in ticks:
                count = int(matrix[row, column])
                if count:
                    colour = "white" if count > matrix.max() / 2 else "black"
                    axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    figure.savefig(path, dpi=120)


def write_page(folder: Path, title: str, facts: Mapping[str, Any], pictures: Sequence[Path]) -> None:
    """report.html: the facts as a table and the pictures, in one file that can be sent around."""
    rows = "".join(
        f"<tr><th>{html.escape(str(key))}</th><td>{html.escape(str(value))}</td></tr>"
        for key, value in facts.items()
    )
    images = "".join(
        f'<img alt="{path.stem}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'
        for path in pictures
    )
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "th{text-align:left;padding-right:2rem;font-weight:600}img{max-width:100%;margin-top:1rem;display:block}"
    )
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{style}</style><h1>{html.escape(title)}</h1><table>{rows}</table>{images}</html>\n"
    )
    (folder / "report.html").write_text(page, encoding="utf-8")
