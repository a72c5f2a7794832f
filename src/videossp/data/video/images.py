"""Folders of frames: their images in order, decoded."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from av.error import FFmpegError

from videossp.data.video.container import as_data_error, open_stream, packets_of
from videossp.data.video.files import images_of
from videossp.data.video.orientation import upright
from videossp.errors import DataError


def read_images(folder: Path, count: int, positions: Iterable[int]) -> dict[int, np.ndarray]:
    """Images of a folder by their position, as RGB pixels (height, width, 3) uint8.

    Args:
        count: number of images that the folder had when it was listed.

    Raises:
        DataError: the folder has another number of images now, or one cannot be decoded.
    """
    files = images_of(folder)
    if len(files) != count:
        raise DataError(f"{folder}: had {count} frames, has {len(files)} now")
    return {i: read_image(files[i]) for i in positions}


def read_image(path: Path) -> np.ndarray:
    """The RGB pixels (height, width, 3) uint8 of an image, upright.

    Raises:
        DataError: it cannot be decoded.
    """
    if not path.is_file():
        raise DataError(f"{path}: not a regular file")  # reading a pipe could take for ever

    def decode() -> np.ndarray:
        # By default image2 takes a percent sign in a name as a number pattern.
        with (
            open_stream(path, format="image2", options={"pattern_type": "none"}) as (container, stream),
            packets_of(container, stream) as packets,
        ):
            for frame in (frame for packet in packets for frame in packet.decode()):
                return upright(frame, path)
        raise DataError(f"{path}: not a readable image: no frame in it")

    with suppress(FFmpegError, OSError):
        return decode()
    with as_data_error(path, "not a readable image"):
        return decode()
