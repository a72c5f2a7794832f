"""Figures of trainings and evaluations as PNG files."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.image import imsave
from torch import Tensor

from videossp.data.sampling import ClipFormat
from videossp.inference.evaluate import Evaluation
from videossp.reporting.labels import FONTS_LOGGER, Labels, class_labels
from videossp.system.files import atomic_write
from videossp.system.quiet import quiet

GAP = 2  # pixels between the frames of a strip
DPI = 120
COLUMN = 0.085  # inches of a character in labels of 10 points
MOST_LABELS = 200  # classes whose names fit on a side of a confusion matrix


def write_figure(figure: Figure, file: Path | BinaryIO) -> None:
    """Write a figure as a PNG, to a path atomically."""
    picture = io.BytesIO()
    with quiet(FONTS_LOGGER):
        figure.savefig(picture, format="png", dpi=DPI)
    if isinstance(file, Path):
        atomic_write(file, picture.getvalue())
    else:
        file.write(picture.getvalue())


def draw_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]], file: Path | BinaryIO) -> None:
    """Training loss and, if there is a validation, its accuracy by epoch for each method, as a PNG."""
    validated = all(row["val_top1"] is not None for history in histories.values() for row in history)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, *rest = figure.subplots(1, 2 if validated else 1, squeeze=False)[0]
    for name, history in histories.items():
        epochs = [row["epoch"] for row in history]
        left.plot(epochs, [row["loss"] for row in history], marker=".", label=name)
        for right in rest:
            right.plot(epochs, [100 * row["val_top1"] for row in history], marker=".", label=name)
    left.set(xlabel="epoch", ylabel="training loss (nats)", ylim=(0, None))
    if len(histories) > 1:
        left.legend()
    for right in rest:
        right.set(xlabel="epoch", ylabel="validation top-1 (%)", ylim=(0, 102))
    for axes in (left, *rest):
        axes.grid(alpha=0.3)
    write_figure(figure, file)


def draw_classes(evaluations: Mapping[str, Evaluation], file: Path | BinaryIO) -> None:
    """Accuracy by class and method as bars, with a line at chance, as a PNG."""
    first = next(iter(evaluations.values()))
    shown = [i for i, count in enumerate(first.counts.tolist()) if count]
    thickness = 0.8 / len(evaluations)
    labels = class_labels([first.classes[i] for i in shown])
    size = 6 + COLUMN * labels.columns, 0.8 + 0.32 * len(shown)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for i, (name, evaluation) in enumerate(evaluations.items()):
        heights = [y + thickness * (i - (len(evaluations) - 1) / 2) for y in range(len(shown))]
        accuracy = 100 * evaluation.class_accuracy[shown]
        axes.barh(heights, accuracy.tolist(), height=0.9 * thickness, label=name)
    axes.axvline(100 / len(first.classes), color="black", linestyle=":", linewidth=1, label="chance")
    names = [f"{text} ({first.counts[i]})" for text, i in zip(labels.texts, shown, strict=True)]
    axes.set_yticks(range(len(shown)), names, **labels.style)
    _add_note(figure, labels)
    axes.set(xlabel="accuracy (%)", xlim=(0, 100), ylim=(len(shown) - 0.4, -0.6))
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    write_figure(figure, file)


def draw_strip(clip: Tensor, clip_format: ClipFormat, file: Path | BinaryIO) -> None:
    """The frames of a normalised clip (3, time, height, width) side by side, as a PNG."""
    mean, std = (torch.tensor(x)[:, None, None, None] for x in (clip_format.mean, clip_format.std))
    frames = (clip * std + mean).clamp(0, 1)
    gap = F.pad(frames, (0, GAP), value=1.0)  # white, on the right of each frame
    pixels = (255 * gap.permute(2, 1, 3, 0).flatten(1, 2)[:, :-GAP]).round().to(torch.uint8)
    imsave(file, pixels.numpy(), format="png")


def draw_reliability(evaluations: Mapping[str, Evaluation], file: Path | BinaryIO) -> None:
    """Accuracy by the probability of the predicted class, and the number of videos, as a PNG."""
    figure = Figure(figsize=(5, 5), dpi=DPI, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 100], [0, 100], color="black", linestyle=":", linewidth=1, label="calibrated")
    for name, evaluation in evaluations.items():
        found = evaluation.reliability
        error = "" if found.error is None else f" (calibration error {100 * found.error:.1f} %)"
        upper.plot(100 * found.confidence, 100 * found.accuracy, marker="o", label=f"{name}{error}")
        edges = [100 * i / len(found.counts) for i in range(len(found.counts) + 1)]
        lower.stairs(found.counts, edges)
    upper.set(ylabel="accuracy (%)", ylim=(-2, 102))
    upper.legend(fontsize=8, loc="lower right")
    lower.set(xlabel="probability of the predicted class (%)", ylabel="videos", xlim=(0, 100))
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    write_figure(figure, file)


def _add_note(figure: Figure, labels: Labels) -> None:
    """Explain the labels at the bottom of a figure, if they need it."""
    if labels.note:
        figure.supxlabel(labels.note, fontsize=8)


def draw_confusion(evaluation: Evaluation, file: Path | BinaryIO) -> None:
    """Confusion matrix in videos, as a PNG: rows are the true classes, columns the predicted ones.

    More than `MOST_LABELS` classes have numbers in place of names.
    """
    matrix, labels = evaluation.confusion, class_labels(evaluation.classes)
    count = len(labels.texts)
    side = min(30.0, max(1.7, 0.32 * count))
    font = min(10.0, 0.75 * 72 * side / count)
    named = count <= MOST_LABELS
    room = (
        COLUMN * labels.columns * font / 10 if named else 0.0
    )  # for the names on the left; below, a bit less
    size = side + 1.6 + room, side + 1.4 + 0.9 * room
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.imshow(matrix.numpy(), cmap="Blues", vmin=0)
    ticks = range(count)
    if named:
        style = {"fontsize": font, **labels.style}
        axes.set_xticks(ticks, labels.texts, rotation=60, ha="right", rotation_mode="anchor", **style)
        axes.set_yticks(ticks, labels.texts, **style)
        _add_note(figure, labels)
    number = "" if named else " (number of the class, from 0)"
    axes.set(
        xlabel=f"predicted{number}", ylabel=f"true{number}", title=f"top-1 {100 * evaluation.top(1):.1f} %"
    )
    if count <= 30:
        for row in ticks:
            for column in ticks:
                videos = int(matrix[row, column])
                if videos:
                    colour = "white" if videos > matrix.max() / 2 else "black"
                    axes.text(column, row, str(videos), ha="center", va="center", color=colour, fontsize=8)
    write_figure(figure, file)


def draw_comparison(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Top-1, its interval and the trainable parameters of each method that has results, as a PNG."""
    rows = [row for row in rows if row["top1"] is not None]
    figure = Figure(figsize=(8, 1 + 0.3 * len(rows)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for height, row in enumerate(rows):
        top, low, high = (100 * row[key] for key in ("top1", "top1_low", "top1_high"))
        axes.errorbar(
            top, height, xerr=[[top - low], [high - top]], fmt="o", color="C0", capsize=3, elinewidth=1
        )
    names = [f"{row['method']} ({row['parameters_m']:.3g} M)" for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set(xlabel="top-1 (%)", ylabel="method (trainable parameters, with head)")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    write_figure(figure, path)
