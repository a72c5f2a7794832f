"""`write_animation`: the frames of a clip beside its map, as a GIF or an MP4."""

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import av
import numpy as np
from av.error import BlockingIOError as NoFrameYet
from av.error import EOFError as NoMoreFrames

from videossp.explanation.explanation import Explanation
from videossp.reporting.caption import draw_caption
from videossp.reporting.heat_maps import frame_title, map_row, overlaid
from videossp.system.files import atomic_write

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

UNIT = Fraction(1, 100)  # seconds; the times of a GIF are multiples of it
SECONDS = 0.4  # of a frame, if its time is not known
LAST = 1.0  # seconds that the last frame stays
LONGEST = 5.0  # seconds of a frame
SHORTEST = 0.25  # seconds of a frame: short clips play more slowly, so that each frame can be seen
HEIGHT = 224  # pixels, at least
GAP = 8  # pixels between clip and map


def write_animation(explanation: Explanation, file: Path | BinaryIO, suffix: str) -> None:
    """Write the animation.

    Args:
        explanation: of a clip.
        file: a path, which is written atomically, or a binary file.
        suffix: ".gif", or ".mp4" for H.264.
    """
    images = list(_images(explanation))
    images.append(images[-1])  # players show the last frame of a file for a moment only
    content = io.BytesIO()
    times = [round(x / UNIT) for x in _times(explanation)]
    if suffix == ".gif":
        _encode(content, "gif", "gif", "pal8", _with_palette(images), times)
    else:
        frames = (av.VideoFrame.from_ndarray(x, format="rgb24") for x in images)
        _encode(content, "mp4", "libx264", "yuv420p", frames, times)
    if isinstance(file, Path):
        atomic_write(file, content.getvalue())
    else:
        file.write(content.getvalue())


def _times(explanation: Explanation) -> list[float]:
    """The time at which each image is shown, in seconds."""
    count, seconds = len(explanation.frames), explanation.seconds
    steps = [SECONDS] * (count - 1)
    if seconds is not None:
        steps = [b - a for a, b in zip(seconds, seconds[1:], strict=False)]
        moving = [x for x in steps if x > 0]  # a short video repeats frames
        slower = max(1.0, SHORTEST / float(np.median(moving))) if moving else 1.0
        steps = [min(LONGEST, max(SHORTEST / 4, slower * x)) for x in steps]
    return [sum(steps[:t]) for t in range(count)] + [sum(steps) + LAST - SHORTEST]


def _images(explanation: Explanation) -> Iterator["Pixels"]:
    """Each frame beside its map, (height, width, 3), with its time; even sizes, as 4:2:0 needs."""
    pairs = zip(explanation.frames, overlaid(explanation.frames, map_row(explanation)), strict=True)
    factor = -(-HEIGHT // explanation.frames.shape[1])
    for t, pair in enumerate(pairs):
        left, right = (x.repeat(factor, 0).repeat(factor, 1) for x in pair)
        gap = np.full((len(left), GAP, 3), 255, np.uint8)
        image = np.concatenate([left, gap, right], axis=1)
        draw_caption(image, frame_title(explanation, t))
        height, width = image.shape[:2]
        yield np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _with_palette(images: Sequence["Pixels"]) -> Iterator[Any]:
    """The images with one palette of 256 colours, as a GIF needs."""
    height, width = images[0].shape[:2]
    graph: Any = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=UNIT)
    split, palette = graph.add("split"), graph.add("palettegen", "stats_mode=full")
    apply, sink = graph.add("paletteuse", "dither=bayer:bayer_scale=5"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(apply, 1, 0)
    palette.link_to(apply, 0, 1)
    apply.link_to(sink)
    graph.configure()
    for i, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = i, UNIT
        source.push(frame)
    source.push(None)
    while True:
        try:
            yield sink.pull()
        except (NoFrameYet, NoMoreFrames):
            return


def _encode(
    file: BinaryIO, container: str, codec: str, pixels: str, frames: Iterator[Any], times: Sequence[int]
) -> None:
    with av.open(file, "w", format=container) as target:
        stream: Any = None
        for frame, time in zip(frames, times, strict=True):
            if stream is None:
                stream = target.add_stream(codec, rate=10)
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pixels
                stream.time_base = stream.codec_context.time_base = UNIT
            frame.pts, frame.time_base = time, UNIT
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
