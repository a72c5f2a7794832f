"""Opening a container for decoding: its video stream, its packets, and the meaning of FFmpeg's errors."""

import multiprocessing
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from av.stream import Disposition

from videossp.data.video.limits import max_pixels, too_large
from videossp.errors import DataError, NoVideoError, TruncatedError

# Formats that store the presentation time of each frame: they open without decoding anything.
TIMED = {"mov", "matroska", "gif", "image2"}
# Codecs whose decoders can skip frames that no other frame refers to.
SKIPPING = {"h264", "mpeg4", "mpeg2video", "mpeg1video"}
# Types of the first box of an MP4 file whose index may be at the end.
MP4_BOXES = (b"ftyp", b"mdat", b"free", b"skip", b"wide")


@contextmanager
def open_stream(
    path: Path, *, probe: bool = False, **options: Any
) -> Iterator[tuple["av.container.InputContainer", "av.VideoStream"]]:
    """Open a container and its first video stream, whose decoder allocates no frame above the limit.

    Args:
        probe: let FFmpeg decode the first frames, to learn what the header leaves out.
        options: further arguments of `av.open`.
    """
    # "file:" keeps FFmpeg from reading a colon in a name as a protocol. The whitelist allows no codec, so
    # opening decodes nothing: the frame size is known before a frame of that size exists, and opening takes
    # a tenth of the time. The list does not bind the stream's decoder.
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
            stream.thread_count = 1  # Python gets FFmpeg's log from this thread only
        yield container, stream


def _stream(container: "av.container.InputContainer", path: Path) -> "av.VideoStream":
    """The first video stream that is not a cover picture, with its decoder configured."""
    streams = [x for x in container.streams.video if not x.disposition & Disposition.attached_pic]
    if not streams:
        raise NoVideoError(f"{path}: no video stream (audio only?)")
    stream = streams[0]
    if stream.codec_context is None:
        raise DataError(f"{path}: there is no decoder for its codec")
    limit = max_pixels()
    if stream.width * stream.height > limit:
        raise too_large(path, stream.width, stream.height)
    # The decoder checks sizes that the header does not give. It counts the borders that it adds to a frame.
    bordered = (stream.width + 256) * (stream.height + 256) if stream.width else 0
    # An H.264 stream may not say how far its frames are reordered. A strict decoder then assumes the longest
    # distance; a normal one loses frames until it has seen it.
    strict = {"strict": "strict"} if stream.codec_context.name == "h264" else {}
    stream.codec_context.options = {"max_pixels": str(min(max(limit, bordered), 2**31 - 1)), **strict}
    stream.thread_type = "SLICE"  # frame threads can deadlock when decoding stops early
    # A worker process has one core, and small frames do not pay for threads.
    threaded = multiprocessing.parent_process() is None and stream.width * stream.height >= 640 * 480
    stream.thread_count = 0 if threaded else 1
    return stream


def packets_of(container: "av.container.InputContainer", stream: "av.VideoStream") -> closing[Any]:
    """The packets of a stream. PyAV leaks memory if its generator is left early and not closed."""
    return closing(container.demux(stream))


def can_skip_frames(stream: "av.VideoStream") -> bool:
    """Whether the decoder can skip the frames that no other frame refers to."""
    name, extra = stream.codec_context.name, stream.codec_context.extradata or b""
    # HEVC marks frames that no frame of the same temporal layer refers to: enough if there is one layer.
    one_layer = name == "hevc" and len(extra) > 22 and extra[0] == 1 and extra[21] >> 3 & 7 == 1
    return one_layer or name in SKIPPING


@contextmanager
def as_data_error(path: Path, problem: str) -> Iterator[None]:
    """Turn an error of FFmpeg into a DataError; FFmpeg's log has details that its error codes lack.

    Args:
        problem: the middle of the message, as "not a readable video".
    """
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
        if "moov atom not found" in text and head_of(path)[4:8] in MP4_BOXES:
            message = f"{path}: truncated: the index (moov atom) at the end is missing"
            raise TruncatedError(message) from error
        raise DataError(f"{path}: {problem}: {reason_of(error)}") from error
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip)


def head_of(path: Path) -> bytes:
    """The first 256 bytes of a file, padded with blanks."""
    with path.open("rb") as file:
        return file.read(256).ljust(256)


def reason_of(error: Exception) -> str:
    """The text of an exception without its number and file name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
