"""Pictures of explanations: maps over the frames of a clip, and curves over its frames."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from videossp.explanation.baselines import BASELINE_TEXTS, singles
from videossp.explanation.explanation import Explanation
from videossp.model.quantity import Quantity
from videossp.reporting.figures import write_figure
from videossp.reporting.labels import class_labels, shorten

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Values = NDArray[np.float32]

# Colours of Okabe & Ito (2008), which colour-blind people can tell apart.
FOR, AGAINST, MECHANISM = (0.84, 0.37, 0.0), (0.0, 0.45, 0.70), (0.0, 0.62, 0.45)
STRONGEST = 0.85  # opacity of the colour of the largest value
WIDTH = 10.0  # inches of a picture, 1,200 pixels
MARGIN = 1.2  # inches on the left, for the names of the rows
COLUMNS = 8  # frames side by side
GAP = 2  # pixels between them
LEAST_SPREAD = 1e-3  # of a quantity, relative to its size: smaller differences have no colour
MOST_NAMES = 16  # frames whose bars have the names of classes
TITLE, TEXT = 11.0, 8.5  # points
MECHANISM_NOTE = (
    "quantities of the model: they show how it works, not which parts the prediction depends on\n"
    "colour: from the lowest value of a row (no colour) to its highest"
)


@dataclass(frozen=True)
class Row:
    """A map to draw over all frames.

    Attributes:
        name: short.
        values: (frames, rows, columns); (frames, 1, 1) for a value of each frame.
        scale: the value that has the strongest colour.
        signed: two colours, for and against; else one.
    """

    name: str
    values: "Values"
    scale: float
    signed: bool = True

    @property
    def norm(self) -> Normalize:
        """From values to [0, 1]."""
        return Normalize(-self.scale if self.signed else 0.0, self.scale, clip=True)

    @property
    def colours(self) -> LinearSegmentedColormap:
        """From [0, 1] to colours with opacity."""
        return SIGNED if self.signed else ONE_COLOUR


def _fading(name: str, *stops: tuple[tuple[float, float, float], float]) -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list(name, [(*colour, opacity) for colour, opacity in stops])


SIGNED = _fading("for_and_against", (AGAINST, STRONGEST), (AGAINST, 0.0), (FOR, 0.0), (FOR, STRONGEST))
ONE_COLOUR = _fading("mechanism", (MECHANISM, 0.0), (MECHANISM, STRONGEST))


def scale_of(*maps: "Values") -> float:
    """The absolute value for the strongest colour: one patch in a hundred exceeds it."""
    return max(float(np.quantile(np.abs(np.stack(maps)), 0.99)), 1e-12)


def overlaid(frames: "Pixels", row: Row) -> "Pixels":
    """Frames (frames, height, width, 3) in grey with a map on them, so that all colours are the map's."""
    height, width = (frames.shape[i] // row.values.shape[i] for i in (1, 2))
    rgba = row.colours(row.norm(row.values)).repeat(height, axis=1).repeat(width, axis=2)
    luminance = (frames @ np.array((0.299, 0.587, 0.114)))[..., None] / 255
    mixed = luminance * (1 - rgba[..., 3:]) + rgba[..., :3] * rgba[..., 3:]
    return np.asarray((255 * mixed).round(), np.uint8)


def strip_of(images: "Pixels") -> "Pixels":
    """Images (count, height, width, 3) side by side, with white gaps."""
    padded = np.pad(images, ((0, 0), (0, 0), (0, GAP), (0, 0)), constant_values=255)
    return np.concatenate([*padded], axis=1)[:, :-GAP]


def frame_title(explanation: Explanation, t: int) -> str:
    """The time of a frame, or its number if the time is not known."""
    return f"frame {t + 1}" if explanation.seconds is None else f"{explanation.seconds[t]:.2f} s"


def map_row(explanation: Explanation) -> Row:
    """The map of an explanation."""
    return Row("map", explanation.map, scale_of(explanation.map))


def percents_of(explanation: Explanation) -> dict[str, str]:
    """Each class as a label of a figure, with its probability."""
    texts = texts_of(explanation)
    return {k: f"{texts[k]} ({100 * p:.1f} %)" for k, p in explanation.probabilities.items()}


def title_of(explanation: Explanation) -> str:
    """Prediction, explained class and method."""
    shown = percents_of(explanation)
    text = f"predicted: {shown[explanation.label]}"
    if explanation.target != explanation.label:
        text += f"; explained: {shown[explanation.target]}"
    return f"{text}\n{explanation.text}"


def legend_of(explanation: Explanation) -> str:
    """The meaning and the unit of a map."""
    if explanation.method == "occlusion":
        return "drop of the log-probability without the patches (nats)"
    return "contribution of a patch to the logit"


def texts_of(explanation: Explanation) -> dict[str, str]:
    """Each class as a label of a figure."""
    return dict(zip(explanation.classes, class_labels(explanation.classes).texts, strict=True))


def draw_explanation(explanation: Explanation, file: Path | BinaryIO) -> None:
    """The frames of a clip, the map over them, and the curve over the frames, as a PNG."""
    title, legend = title_of(explanation), legend_of(explanation)
    draw_rows(file, explanation, [map_row(explanation)], title, legend, [("", explanation)])


def draw_mechanism(explanation: Explanation, file: Path | BinaryIO) -> None:
    """The quantities of the model, as a PNG; those of pairs of frames as matrices."""
    rows = []
    for x in explanation.mechanism:
        if x.per != "frame_pair":
            # Without the smallest value: most quantities are far from zero everywhere.
            low, high = x.values.min().item(), x.values.max().item()
            values: Values = (x.values - low).float().numpy()
            shown = values if x.per == "patch" else values[:, None, None]
            differs = high - low > LEAST_SPREAD * max(abs(low), abs(high))
            name = f"{x.name} ({low:.4g} to {high:.4g})"
            rows.append(Row(name, shown, high - low if differs else np.inf, signed=False))
    pairs = [x for x in explanation.mechanism if x.per == "frame_pair"]
    draw_rows(file, explanation, rows, MECHANISM_NOTE, matrices=pairs)


def draw_rows(
    file: Path | BinaryIO,
    explanation: Explanation,
    rows: Sequence[Row],
    title: str,
    legend: str = "",
    curves: Sequence[tuple[str, Explanation]] = (),
    matrices: Sequence[Quantity] = (),
) -> None:
    """Draw the frames of a clip, maps over them, curves over the frames and matrices between frames.

    Args:
        file: the PNG.
        explanation: gives frames and times.
        rows: maps, from top to bottom. Signed rows share a legend and need the same scale.
        title: of the picture.
        legend: of signed rows.
        curves: explanations whose drops by frame are drawn as bars, each with a text for its title.
        matrices: quantities of pairs of frames.
    """
    frames, labels = explanation.frames, class_labels(explanation.classes)
    pictures = [("clip", frames), *((row.name, overlaid(frames, row)) for row in rows)]
    parts = [range(len(frames))[i : i + COLUMNS] for i in range(0, len(frames), COLUMNS)]
    side = (WIDTH - MARGIN) / COLUMNS * frames.shape[1] / frames.shape[2]
    signed = next((row for row in rows if row.signed), None)
    heights = [
        len(parts) * (len(pictures) * (side + 0.1) + 0.25),
        0.55 if signed else 0.1,
        *(1.5 for _ in curves),
        *([2.3] if matrices else []),
    ]
    title = "\n".join(
        [*(_wrapped(x, 110) for x in title.split("\n")), *([labels.note] if labels.note else [])]
    )
    above = 0.25 + 0.17 * title.count("\n")
    figure = Figure(figsize=(WIDTH, sum(heights) + above + 0.2), layout="constrained")
    figures = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    # One axes for the frames of a line: an axes for each frame takes ten times as long to draw.
    places = figures[0].subplots(len(parts) * len(pictures), 1, squeeze=False)[:, 0]
    for i, part in enumerate(parts):
        for k, (name, images) in enumerate(pictures):
            _draw_strip(places[i * len(pictures) + k], images[part.start : part.stop], name, labels.style)
            if k == 0:
                axes = places[i * len(pictures)]
                centres = [frames.shape[2] / 2 + n * (frames.shape[2] + GAP) for n in range(len(part))]
                axes.set_xticks(centres, [frame_title(explanation, t) for t in part], fontsize=TEXT)
                axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0, pad=1)
    if signed:
        _draw_legend(figures[1].subplots(), signed, legend)
    for place, (about, x) in zip(figures[2:], curves, strict=False):
        draw_curve(place.subplots(), x, about)
    if matrices:
        _draw_matrices(figures[-1], matrices, explanation)
    figure.suptitle(title, fontsize=TITLE, **labels.style)
    write_figure(figure, file)


def _draw_strip(axes: Any, images: "Pixels", name: str, style: dict[str, Any]) -> None:
    """Images side by side at the left, in the width of `COLUMNS` images, with a name before them."""
    strip = strip_of(images)
    axes.imshow(strip, interpolation="nearest")
    axes.set(xticks=[], yticks=[], xlim=(-0.5, COLUMNS * (images.shape[2] + GAP) - GAP - 0.5))
    axes.spines[:].set_visible(False)
    axes.set_ylabel(_wrapped(name, 18), fontsize=TEXT, rotation=0, ha="right", va="center", **style)


def _wrapped(text: str, width: int) -> str:
    """A text on several lines; long names without spaces are broken."""
    return "\n".join(textwrap.wrap(text, width)) or text


def _draw_legend(axes: Any, row: Row, label: str) -> None:
    """A colour bar over grey, as the maps are over the frames."""
    bar = axes.figure.colorbar(ScalarMappable(row.norm, row.colours), cax=axes, orientation="horizontal")
    axes.set_facecolor("0.75")
    axes.set_box_aspect(0.03)
    bar.set_ticks(
        [-row.scale, 0, row.scale], labels=[f"against: {-row.scale:.2g}", "0", f"for: {row.scale:.2g}"]
    )
    axes.tick_params(labelsize=TEXT)
    bar.set_label(label, fontsize=TEXT)


def draw_curve(axes: Any, explanation: Explanation, about: str = "") -> None:
    """The drop of the log-probability without each frame, as bars, with the class if it changes.

    Args:
        axes: of matplotlib.
        explanation: of one class.
        about: text in front of the title, as "ssp: ".
    """
    drops, texts = explanation.frame_drops, texts_of(explanation)
    style = class_labels(explanation.classes).style
    positions = range(len(drops))
    axes.bar(positions, drops, color=[FOR if x > 0 else AGAINST for x in drops], width=0.7)
    axes.axhline(0, color="black", linewidth=0.8)
    low, high = min(0.0, float(drops.min())), max(0.0, float(drops.max()))
    room = max(high - low, 0.1)
    axes.set(xlim=(-0.5, len(drops) - 0.5), ylim=(low - 0.1 * room, high + 0.3 * room))
    shown = [*positions][:: -(-len(drops) // 16)]
    axes.set_xticks(shown, [frame_title(explanation, t) for t in shown])
    axes.tick_params(labelsize=TEXT)
    axes.set_ylabel("drop (nats)", fontsize=TEXT)
    by = BASELINE_TEXTS[singles(explanation.baseline)[-1]]
    title = f"{about}drop of the log-probability when a frame is replaced by {by}"
    axes.set_title(_wrapped(title, 120), fontsize=TEXT, loc="left", **style)
    for t in explanation.deciding_frames:
        name = shorten(texts[explanation.without_frame[t]], 16) if len(drops) <= MOST_NAMES else ""
        place = {"ha": "center", "va": "bottom", "fontsize": TEXT - 1.5}
        axes.text(t, max(0.0, drops[t]), f"→ {name}" if name else "▾", **place, **style)


def _draw_matrices(part: Any, matrices: Sequence[Quantity], explanation: Explanation) -> None:
    """Quantities of pairs of frames."""
    places = part.subplots(1, max(3, len(matrices)))
    for axes in places[len(matrices) :]:
        axes.axis("off")
    for axes, x in zip(places, matrices, strict=False):
        image = axes.imshow(x.values.numpy(), cmap="cividis")
        part.colorbar(image, ax=axes, shrink=0.9).ax.tick_params(labelsize=TEXT)
        axes.set_title(x.name, fontsize=TEXT)
        axes.set_xlabel("attended frame", fontsize=TEXT)
        axes.set_ylabel("attending frame", fontsize=TEXT)
        count = len(explanation.frames)
        ticks = [*range(count)][:: -(-count // 8)]
        axes.set_xticks(ticks, [t + 1 for t in ticks], fontsize=TEXT)
        axes.set_yticks(ticks, [t + 1 for t in ticks], fontsize=TEXT)
