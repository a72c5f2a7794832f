"""The orientation of phone videos and photographs: frames are turned and mirrored as the file says."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type

from videossp.data.video.limits import max_pixels, too_large

SIDE_DATA_TYPES = 64  # more than FFmpeg has


def upright(frame: "av.VideoFrame", path: Path | str) -> np.ndarray:
    """RGB pixels (height, width, 3) of a decoded frame, as a player shows them.

    Raises:
        DataError: the frame is larger than `max_pixels`.
    """
    if frame.width * frame.height > max_pixels():
        raise too_large(path, frame.width, frame.height)
    pixels = frame.to_ndarray(format="rgb24", threads=1)
    matrix = display_matrix(frame)
    return pixels if matrix is None else np.ascontiguousarray(oriented(pixels, matrix))


def display_matrix(frame: "av.VideoFrame") -> np.ndarray | None:
    """The nine entries of a frame's display matrix, or None."""
    try:
        entries: Any = frame.side_data
    except ValueError:  # PyAV reads no side data beside data of a type that it does not know, such as EXIF
        entries = without_unknown_side_data(frame).side_data
    for i in range(len(entries)):
        if entries[i].type is Type.DISPLAYMATRIX:
            return np.frombuffer(bytes(entries[i]), "=i4")
    return None


def without_unknown_side_data(frame: "av.VideoFrame") -> "av.VideoFrame":
    """The same frame without the side data whose type is not in PyAV's enumeration."""
    graph = Graph()
    known: set[object] = {x.value for x in Type}
    time_base = frame.time_base or Fraction(1)
    last = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=time_base)
    for number in (x for x in range(SIDE_DATA_TYPES) if x not in known):
        following = graph.add("sidedata", f"mode=delete:type={number}")
        last.link_to(following)
        last = following
    sink = graph.add("buffersink")
    last.link_to(sink)
    graph.configure()
    graph.push(frame)
    return graph.pull()  # type: ignore[return-value]


def oriented(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Pixels (height, width, ...) after the one of the eight orientations that is closest to a matrix.

    Args:
        matrix: the nine entries of a display matrix (ISO/IEC 14496-12, 8.3.2). It maps the pixel at (x, y) to
            (x * m[0] + y * m[3], x * m[1] + y * m[4]); scale and offset are not applied.
    """
    (xx, xy), (yx, yy) = matrix[0:2].tolist(), matrix[3:5].tolist()
    if abs(xy) + abs(yx) > abs(xx) + abs(yy):
        pixels, xx, yy = pixels.swapaxes(0, 1), yx, xy
    return pixels[:: -1 if yy < 0 else 1, :: -1 if xx < 0 else 1]
