"""PNG figures of trainings, evaluations and comparisons."""

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.path import Path as Line
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from torch import Tensor

from videossp.data.sampling import ClipFormat
from videossp.inference.evaluate import Evaluation
from videossp.system.files import atomic_write

GAP = 2  # pixels between the frames of a strip
DPI = 120


def _write(figure: Figure, file: Path | BinaryIO) -> None:
    """Write a figure as a PNG; a file is replaced atomically."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=DPI)
    if isinstance(file, Path):
        atomic_write(file, picture.getvalue())
    else:
        file.write(picture.getvalue())


def draw_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]], file: Path | BinaryIO) -> None:
    """Draw training loss and validation accuracy of each method by epoch."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, history in histories.items():
        epochs = [row["epoch"] for row in history]
        left.plot(epochs, [row["loss"] for row in history], marker=".", label=name)
        right.plot(epochs, [100 * row["val_top1"] for row in history], marker=".", label=name)
    left.set(xlabel="epoch", ylabel="training loss (nats)", ylim=(0, None))
    right.set(xlabel="epoch", ylabel="validation top-1 (%)", ylim=(0, 102))
    if len(histories) > 1:
        left.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    _write(figure, file)


def draw_classes(evaluations: Mapping[str, Evaluation], file: Path | BinaryIO) -> None:
    """Draw bars of the accuracy of each method by class, and a line at chance."""
    first = next(iter(evaluations.values()))
    shown = [i for i, count in enumerate(first.counts.tolist()) if count]
    thick = 0.8 / len(evaluations)
    figure = Figure(figsize=(8, 0.8 + 0.32 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for place, (name, evaluation) in enumerate(evaluations.items()):
        heights = [y + thick * (place - (len(evaluations) - 1) / 2) for y in range(len(shown))]
        accuracy = 100 * evaluation.class_accuracy[shown]
        axes.barh(heights, accuracy.tolist(), height=0.9 * thick, label=name)
    axes.axvline(100 / len(first.classes), color="black", linestyle=":", linewidth=1, label="chance")
    names = [f"{plain(first.classes[i])} ({first.counts[i]})" for i in shown]
    axes.set_yticks(range(len(shown)), names)
    axes.set(xlabel="accuracy (%)", xlim=(0, 100), ylim=(len(shown) - 0.4, -0.6))
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    _write(figure, file)


def draw_strip(clip: Tensor, clip_format: ClipFormat, file: Path | BinaryIO) -> None:
    """Draw the frames of a normalised clip (3, time, height, width) side by side."""
    mean, std = (torch.tensor(x)[:, None, None, None] for x in (clip_format.mean, clip_format.std))
    frames = (clip * std + mean).clamp(0, 1)
    gap = F.pad(frames, (0, GAP), value=1.0)  # white, on the right of each frame
    pixels = (255 * gap.permute(2, 1, 3, 0).flatten(1, 2)[:, :-GAP]).round().to(torch.uint8)
    imsave(file, pixels.numpy(), format="png")


def plain(name: str) -> str:
    """Escape $ in a class name, which Matplotlib would read as the start of a formula."""
    return name.replace("$", r"\$")


def draw_confusion(evaluation: Evaluation, file: Path | BinaryIO) -> None:
    """Draw the confusion matrix in videos: rows are true classes, columns predicted ones."""
    matrix = evaluation.confusion
    names = [plain(name) for name in evaluation.classes]
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
    _write(figure, file)


def draw_comparison(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw top-1 and its interval against the trained parameters; methods without results are left out."""
    rows = [row for row in rows if row["top1"] is not None]
    figure = Figure(figsize=(8, 5), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel="trained parameters, with head (M)", ylabel="top-1 (%)", xscale="log")
    axes.grid(alpha=0.3)
    points = [(row["parameters_m"], 100 * row["top1"]) for row in rows]
    ends = [(100 * row["top1_low"], 100 * row["top1_high"]) for row in rows]
    colours = [f"C{i}" for i in range(len(rows))]
    for (x, y), (low, high), colour in zip(points, ends, colours, strict=True):
        axes.errorbar(x, y, [[y - low], [high - y]], fmt="o", color=colour, capsize=3, elinewidth=1)
    if rows:
        left, right = min(x for x, _ in points), max(x for x, _ in points)
        bottom, top = max(0, min(low for low, _ in ends)), min(100, max(high for _, high in ends))
        wide, tall = max(2, (right / left) ** 0.15), max(2, 0.08 * (top - bottom))
        axes.set(xlim=(left / wide, right * wide), ylim=(bottom - tall, top + tall))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # else drawing would move what is measured here
    pixels = axes.transData.transform
    bars = [
        Bbox(pixels([(x, low), (x, high)])).padded(2)
        for (x, _), (low, high) in zip(points, ends, strict=True)
    ]
    spots = [Bbox(pixels([point, point])).padded(6) for point in points]
    names: list[Bbox] = []
    for row, point, spot, colour in zip(rows, points, spots, colours, strict=True):
        apart = [other for other in spots if not other.overlaps(spot)]
        names.append(
            place_name(axes, row["method"], point, colour, blocked=[*apart, *names], busy=[*spots, *bars])
        )
    _write(figure, path)


def place_name(
    axes: Axes,
    name: str,
    point: tuple[float, float],
    colour: str,
    blocked: Sequence[Bbox],
    busy: Sequence[Bbox],
) -> Bbox:
    """Write a method's name near its point, with a line to the point.

    Args:
        axes: of the figure, whose layout is final.
        name, point, colour: text, data coordinates and colour.
        blocked: rectangles in pixels that neither the name nor its line should cross.
        busy: rectangles in pixels that the name should not cover; the line may cross them.

    Returns:
        The rectangle of the name in pixels. If there is no room, it overlaps others.
    """
    text = axes.annotate(
        name,
        point,
        xytext=(0, 0),
        textcoords="figure pixels",
        ha="center",
        va="center",
        fontsize=9,
        color=colour,
        arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.4, "shrinkA": 0, "shrinkB": 3},
    )
    size = Text.get_window_extent(text)  # of the name without its line
    x, y = axes.transData.transform(point)
    # First left and right of the point, then on the diagonals, above and below, and between these.
    sixteenths = (0, 8, 2, 14, 6, 10, 4, 12, *range(1, 16, 2))
    boxes = []
    for distance, sixteenth in itertools.product(range(10, 250, 6), sixteenths):
        across, up = math.cos(sixteenth * math.pi / 8), math.sin(sixteenth * math.pi / 8)
        middle = x + across * (size.width / 2 + distance), y + up * (size.height / 2 + distance)
        boxes.append(
            Bbox.from_bounds(middle[0] - size.width / 2, middle[1] - size.height / 2, size.width, size.height)
        )

    def clear(box: Bbox) -> bool:
        inside = axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max)
        return inside and not box.count_overlaps([*blocked, *busy])

    def reachable(box: Bbox) -> bool:
        line = Line([(x, y), (box.x0 + box.width / 2, box.y0 + box.height / 2)])
        return not any(map(line.intersects_bbox, blocked))

    free = list(filter(clear, boxes)) or boxes
    box = next(filter(reachable, free), free[0])
    text.set_position((box.x0 + box.width / 2, box.y0 + box.height / 2))
    return box
