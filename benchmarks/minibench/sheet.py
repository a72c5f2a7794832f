"""The contact sheet of a set: a film strip per class, with its name."""

import io
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from matplotlib.figure import Figure

from videossp.system.files import atomic_write

SHOWN, ACROSS = 6, 2  # frames per strip, strips per row


def strip(video: Path) -> np.ndarray:
    """SHOWN uniform frames side by side, (height, SHOWN x width, 3)."""
    with av.open(str(video)) as container:
        frames = [x.to_ndarray(format="rgb24") for x in container.decode(video=0)]
    return np.hstack([frames[i] for i in np.linspace(0, len(frames) - 1, SHOWN).round().astype(int)])


def draw_sheet(file: Path, videos: Sequence[tuple[str, Path]], title: str) -> None:
    """Write a PNG with one strip for each (name, video)."""
    down = -(-len(videos) // ACROSS)
    figure = Figure((14, 1.42 * down + 0.5), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(down, ACROSS, squeeze=False).T.ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (name, video) in zip(axes, videos, strict=False):
        axis.imshow(strip(video))
        axis.set_title(name, fontsize=9, loc="left", pad=2)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    atomic_write(file, picture.getvalue())
