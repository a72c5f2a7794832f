"""A container opened for decoding: its video stream, limits, what its errors mean."""

import multiprocessing
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition

from videossp.errors import DataError, NoVideoError, TruncatedError

# A larger frame is refused before there is memory for it: 8K passes.
MAX_PIXELS = 8192 * 4320
# Formats that hold the presentation time of each frame: nothing has to be decoded to open them.
TIMED = {"mov", "matroska", "gif", "image2"}
# Codecs whose decoders know, before they decode it, that no other frame is made of a frame.
SKIPPING = {"h264", "mpeg4", "mpeg2video", "mpeg1video"}


def max_pixels() -> int:
    """Pixels of the largest frame that is decoded: the environment's VIDEOSSP_MAX_PIXELS, or MAX_PIXELS.

    Raises:
        ValueError: the variable is not a whole number above 0.
    """
    value = os.environ.get("VIDEOSSP_MAX_PIXELS", str(MAX_PIXELS))
    if not value.isdecimal() or int(value) == 0:
        raise ValueError(f"VIDEOSSP_MAX_PIXELS must be a number of pixels (width x height), got {value!r}")
    return int(value)


@contextmanager
def opened(
    path: Path, *, probe: bool = False, **options: Any
) -> Iterator[tuple["av.container.InputContainer", "av.VideoStream"]]:
    """A container and its first video stream, whose decoder allocates no frame above the limit.

    Args:
        probe: let FFmpeg decode the first frames, to learn what a header leaves out.
    """
    # "file:" keeps FFmpeg from reading a colon in a name as a protocol. With no codec on the white list
    # nothing is decoded to open the file, so its size is known before there is a frame of that size, and
    # it takes a tenth of the time; the decoder of the stream is not bound by the list.
    name, common = f"file:{path}", {"metadata_errors": "ignore", **options}
    with av.open(name, container_options={"codec_whitelist": "none"}, **common) as container:
        stream = _stream(container, path)
        if not probe and TIMED & set(container.format.name.split(",")):
            yield container, stream
            return
        limit = {"max_pixels": stream.codec_context.options["max_pixels"]}
    with av.open(name, options=limit, **common) as container:
        stream = _stream(container, path)
        if probe:
            stream.thread_count = 1  # FFmpeg's log reaches Python from this thread alone
        yield container, stream


def _stream(container: "av.container.InputContainer", path: Path) -> "av.VideoStream":
    streams = [x for x in container.streams.video if not x.disposition & Disposition.attached_pic]
    if not streams:
        raise NoVideoError(f"{path}: no video stream (audio only?)")
    stream = streams[0]
    if stream.codec_context is None:
        raise DataError(f"{path}: there is no decoder for its codec")
    limit = max_pixels()
    if stream.width * stream.height > limit:
        raise too_large(path, stream.width, stream.height)
    # The decoder's own limit is for what no header tells. It counts the borders that it adds to a frame.
    bordered = (stream.width + 256) * (stream.height + 256) if stream.width else 0
    # Strict: where H.264 does not say how far its frames are reordered, the decoder assumes the farthest
    # instead of losing frames until it has seen it.
    strict = {"strict": "strict"} if stream.codec_context.name == "h264" else {}
    stream.codec_context.options = {"max_pixels": str(min(max(limit, bordered), 2**31 - 1)), **strict}
    stream.thread_type = "SLICE"  # frame threads can deadlock when a decode is left early
    # Workers have a core each; and a small frame is not worth threads.
    alone = multiprocessing.parent_process() is None and stream.width * stream.height >= 640 * 480
    stream.thread_count = 0 if alone else 1
    return stream


def packets_of(container: "av.container.InputContainer", stream: "av.VideoStream") -> closing[Any]:
    """The packets of a stream; PyAV leaks memory where its generator is left early and not closed."""
    return closing(container.demux(stream))


def skips(stream: "av.VideoStream") -> bool:
    """Whether the decoder can pass over the frames that no other frame is made of."""
    name, extra = stream.codec_context.name, stream.codec_context.extradata or b""
    # HEVC marks the frames that no frame of the same temporal layer is made of: enough if there is one layer.
    one_layer = name == "hevc" and len(extra) > 22 and extra[0] == 1 and extra[21] >> 3 & 7 == 1
    return one_layer or name in SKIPPING


@contextmanager
def explained(path: Path, what: str) -> Iterator[None]:
    """Turn an error of FFmpeg into a DataError; its log says what its error codes do not."""
    level, skip = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as log:
            yield
    except (FFmpegError, OSError) as error:
        text = " ".join(line for _, _, line in log)
        size = re.search(r"Picture size (\d+)x(\d+) (exceeds|is invalid)", text)
        if size and int(size[1]) * int(size[2]) > max_pixels():
            raise too_large(path, int(size[1]), int(size[2])) from error
        if "moov atom not found" in text and head_of(path)[4:8] in (
            b"ftyp",
            b"mdat",
            b"free",
            b"skip",
            b"wide",
        ):
            raise TruncatedError(
                f"{path}: cut short: its index (moov), which should end it, is not there"
            ) from error
        raise DataError(f"{path}: {what}: {reason_of(error)}") from error
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip)


def upright(frame: "av.VideoFrame", path: Path) -> np.ndarray:
    """The frame as (height, width, 3) RGB, turned by its display rotation (degrees, counter-clockwise)."""
    if frame.width * frame.height > max_pixels():
        raise too_large(path, frame.width, frame.height)
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24", threads=1), quarter_turns))


def too_large(path: Path, width: int, height: int) -> DataError:
    limit = f"the limit of {max_pixels()} pixels (VIDEOSSP_MAX_PIXELS in the environment raises it)"
    return DataError(f"{path}: a frame of {width}x{height} is larger than {limit}")


def head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(256).ljust(256)


def reason_of(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
