"""The rotation of a phone video: frames are turned by the angle in the file's metadata."""

from pathlib import Path

import av
import numpy as np

from videossp.data.video.limits import max_pixels, too_large


def upright(frame: "av.VideoFrame", path: Path) -> np.ndarray:
    """RGB pixels (height, width, 3) of a decoded frame, turned to the nearest quarter turn of its rotation.

    The rotation of a frame is in degrees, counter-clockwise. Reflections are not applied.

    Raises:
        DataError: the frame is larger than `max_pixels`.
    """
    if frame.width * frame.height > max_pixels():
        raise too_large(path, frame.width, frame.height)
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24", threads=1), quarter_turns))
