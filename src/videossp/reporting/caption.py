"""`draw_caption`: a line of text in the lower left corner of a picture."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from videossp.reporting.labels import class_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

LINE = 18  # a line of text takes one part in so many of the picture's height


def draw_caption(pixels: "NDArray[np.uint8]", text: str) -> None:
    """Draw a line of white text on a dark bar into the lower left corner of a picture, in place.

    Args:
        pixels: (height, width, 3).
    """
    height, width = pixels.shape[:2]
    ink = text_image(text, max(8, height // LINE))[:height, :width, None]
    rows, columns = ink.shape[:2]
    corner = pixels[height - rows :, :columns]
    corner[:] = (corner * 0.35 * (1 - ink) + 255 * ink).astype(np.uint8)


@lru_cache(maxsize=256)
def text_image(text: str, size: int) -> "NDArray[np.float32]":
    """Text in pixels, (height, width) from 0 to 1.

    Args:
        size: height of the letters in pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = class_labels([text])
    columns = max(1, labels.columns)
    figure = Figure(figsize=((columns + 2) * size / 72, 2 * size / 72), dpi=72, facecolor="black")
    canvas: Any = FigureCanvasAgg(figure)
    shown = figure.text(0, 0.5, labels.texts[0], color="white", va="center", fontsize=size, **labels.style)
    canvas.draw()
    end = int(shown.get_window_extent().x1) + size // 2
    grey: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[:, : max(1, end), 0]
    return grey.astype(np.float32) / np.float32(255)
