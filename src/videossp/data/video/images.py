"""Folders of frames: their images in order, decoded."""

import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import CodecContext
from av.error import FFmpegError

from videossp.data.video.container import as_data_error, open_stream, packets_of
from videossp.data.video.files import images_of
from videossp.data.video.limits import max_pixels
from videossp.data.video.orientation import upright
from videossp.errors import DataError, TruncatedError

# FFmpeg's decoder by the first bytes of a file. Names can be wrong, and other programs do not look at them.
DECODERS = (
    (b"\xff\xd8", "mjpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"BM", "bmp"),
    (b"GIF8", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"P5", "pgm"),
    (b"P6", "ppm"),
    (b"\0\0\0\x0cjP  ", "jpeg2000"),
)
JPEG_IN_TIFF = (6, 7)  # values of TIFF's tag "compression"; FFmpeg decodes these to wrong colours


def read_images(folder: Path, count: int, positions: Iterable[int]) -> dict[int, np.ndarray]:
    """Images of a folder by their position, as RGB pixels (height, width, 3) uint8.

    Args:
        count: number of images that the folder had when it was listed.

    Raises:
        DataError: the folder has another number of images now, or one cannot be decoded.
    """
    files = images_of(folder, count)
    if len(files) != count:
        raise DataError(f"{folder}: had {count} frames, has {len(files)} now")
    return {i: read_image(files[i]) for i in positions}


def read_image(path: Path) -> np.ndarray:
    """The RGB pixels (height, width, 3) uint8 of an image, upright.

    The format is that of the content, whatever the suffix.

    Raises:
        TruncatedError: it ends too early.
        DataError: it cannot be decoded, or holds several pictures.
    """
    if not path.is_file():
        raise DataError(f"{path}: not a regular file")  # reading a pipe could take for ever

    def decode() -> np.ndarray:
        data = path.read_bytes()
        decoder = decoder_of(path, data)
        check_content(path, data, decoder)
        context: Any = CodecContext.create(decoder, "r")  # of which only the part for videos can decode
        context.options = {"max_pixels": str(min(max_pixels(), 2**31 - 1))}
        context.thread_count = 1  # Python gets FFmpeg's log from this thread only
        for frame in context.decode(av.Packet(data)) + context.decode(None):
            return upright(frame, path)
        raise DataError(f"{path}: not a readable image: no frame in it")

    with suppress(FFmpegError, OSError):
        return decode()
    with as_data_error(path, "not a readable image"):
        return decode()


def decoder_of(path: Path, data: bytes) -> str:
    """FFmpeg's decoder of an image.

    Raises:
        DataError: the format is not known.
    """
    for head, decoder in DECODERS:
        if data.startswith(head):
            return decoder
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if path.suffix.lower() == ".tga":
        return "targa"  # this format has no mark of its own
    problem = (
        "its content is not JPEG, PNG, WebP, BMP, TIFF, PPM, JPEG 2000 or GIF" if data else "it is empty"
    )
    raise DataError(f"{path}: not a readable image: {problem}")


def check_content(path: Path, data: bytes, decoder: str) -> None:
    """Refuse what the decoder would read as another picture than the file shows, or as a part of it.

    Raises:
        TruncatedError, DataError: see `read_image`.
    """
    if has_several_pictures(path, data, decoder):
        raise DataError(f"{path}: holds several pictures, but a frame is one; save each as an image")
    if decoder == "mjpeg" and not is_complete(data):
        raise TruncatedError(f"{path}: truncated: the end of its JPEG data is missing")
    if decoder == "tiff" and tiff_header(data)[0] in JPEG_IN_TIFF:
        raise DataError(f"{path}: JPEG data inside a TIFF are not read; save it with another compression")


def has_several_pictures(path: Path, data: bytes, decoder: str) -> bool:
    """Whether an image is animated, or has several pages."""
    if decoder == "png":
        return b"acTL" in data[: data.find(b"IDAT")]
    if decoder == "webp":
        return data[12:16] == b"VP8X" and int.from_bytes(data[20:21], "big") & 2 > 0
    if decoder == "gif":
        with open_stream(path, format="gif") as (container, stream), packets_of(container, stream) as packets:
            return len([x for x in packets if x.size]) > 1
    return decoder == "tiff" and tiff_header(data)[1] != 0


def tiff_header(data: bytes) -> tuple[int, int]:
    """(compression, position of the second picture's header or 0) of a TIFF; (0, 0) if it is damaged."""
    order, compression = "<" if data.startswith(b"II") else ">", 0
    try:
        (at,) = struct.unpack_from(f"{order}I", data, 4)
        (tags,) = struct.unpack_from(f"{order}H", data, at)
        for i in range(tags):
            tag, value = struct.unpack_from(f"{order}H6xH", data, at + 2 + 12 * i)
            compression = value if tag == 259 else compression
        return compression, struct.unpack_from(f"{order}I", data, at + 2 + 12 * tags)[0]
    except struct.error:
        return 0, 0


def is_complete(data: bytes) -> bool:
    """Whether the picture of a JPEG file has its end; FFmpeg fills a missing part with grey."""
    at = 2
    while (
        data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda"
    ):  # up to the coded data: a preview has an end, too
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return b"\xff\xd9" in data[at:]
