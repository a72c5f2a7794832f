"""`read_video`: the times of a video's frames, from its packets, without decoding them."""

import os
import re
import stat
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from av.error import FFmpegError

from videossp.data.video.container import as_data_error, head_of, open_stream, packets_of, reason_of
from videossp.data.video.files import IMAGE_SUFFIXES, images_of
from videossp.data.video.part import part_of
from videossp.errors import DataError, NoVideoError, TruncatedError

# DivX and Xvid can pack a B-frame into the packet of the frame before it; their times are then swapped.
# Such a stream is marked.
PACKED = re.compile(rb"DivX\d+(b|Build)\d+p")


@dataclass(frozen=True)
class Video:
    """The frame times of a video or of a part of it, from its packets; headers can be wrong.

    `len` is the number of frames, which `read_frames` counts from 0.

    Attributes:
        path: the file, or the folder of frames.
        times: presentation time of each frame of the file in display order; for a folder 0, 1, ...
        keys: times of the key frames, where decoding can start.
        has_timestamps: whether packets carry the times of their frames; if not, all frames must be decoded to
            count to one.
        unit: seconds per unit of `times`; None for a folder of frames, or without a frame rate.
        end_time: time at which the file's last frame ends.
        first, stop: the part consists of the frames with `times[first:stop]`.
    """

    path: Path
    times: Sequence[int]
    keys: Sequence[int]
    has_timestamps: bool
    unit: Fraction | None
    end_time: Fraction | int
    first: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.first

    @property
    def seconds(self) -> float | None:
        """Duration of the video or part; None if there is no frame rate."""
        end = self.times[self.stop] if self.stop < len(self.times) else self.end_time
        return None if self.unit is None else float((end - self.times[self.first]) * self.unit)


def read_video(
    path: str | os.PathLike[str],
    start: float | None = None,
    end: float | None = None,
    *,
    frames: tuple[int, int] | None = None,
) -> Video:
    """Read the frame times of a file, without decoding it, or of a folder of frames.

    Truncation is detected in formats that store their length: MP4, AVI, Matroska, WebM. A truncated MPEG
    stream or GIF is read as a shorter video.

    Args:
        start, end: keep only the frames from `start` on and before `end`, in seconds from the first frame.
        frames: (first, stop), counted from 0, in place of the times: keep only these frames.

    Raises:
        NoVideoError: no video stream, or no frames.
        TruncatedError: the file ends too early.
        DataError: not there, not a video, frames larger than `max_pixels`, or no such part of it.
    """
    path = Path(path)
    try:
        info = path.stat()
        images = images_of(path) if stat.S_ISDIR(info.st_mode) else []
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{path}: no such file or folder") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {reason_of(error)}") from error
    if stat.S_ISDIR(info.st_mode):
        if not images:
            raise NoVideoError(f"{path}: holds no frames ({', '.join(IMAGE_SUFFIXES)})")
        count = len(images)
        return part_of(Video(path, range(count), (), False, None, count, 0, count), start, end, frames)
    if not stat.S_ISREG(info.st_mode):
        raise DataError(f"{path}: not a regular file")  # reading a pipe could take for ever
    if info.st_size == 0:
        raise NoVideoError(f"{path}: the file is empty")
    return part_of(_scan(path, info.st_size, info.st_mtime_ns), start, end, frames)


# Parts of a long video are read one after the other, and a scan takes longer than decoding a part.
@lru_cache(maxsize=256)
def _scan(path: Path, size: int, changed: int) -> Video:
    """The frame times of a file; its size and time of change are part of the cache key."""
    with suppress(FFmpegError, OSError):
        return _read_packets(path)
    with as_data_error(path, "not a readable video"):
        return _read_packets(path)


def _read_packets(path: Path) -> Video:
    """The frame times of a file from its packets, or by decoding it where packets do not have them."""
    if (end := _matroska_end(path)) > (size := path.stat().st_size):
        raise TruncatedError(f"{path}: truncated: the header declares {end} bytes, {size} were found")
    shown: list[int | None] = []
    keys: list[int | None] = []
    packed, coded, intact, duration = False, 0, 0, 0
    with open_stream(path) as (container, stream), packets_of(container, stream) as packets:
        context = stream.codec_context
        for packet in packets:
            if packet.size == 0:
                continue
            if not shown:
                packed = bool(PACKED.search(bytes(packet) + (context.extradata or b"")))
            if context.name == "vp8" and not bytes(packet)[0] & 0x10:
                continue  # an alternate reference frame: others refer to it, but it is never shown
            # A packed frame leaves a packet of a few bytes that codes nothing.
            coded += bytes(packet).count(b"\x00\x00\x01\xb6") - (packet.size < 20) if packed else 1
            # Frames hidden by an edit list are decoded, because others refer to them, but not shown.
            if not packet.is_discard:
                shown.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
            if not packet.is_corrupt:
                # AVI stores an empty chunk where a frame is repeated; the header counts these, too.
                counted = container.format.name == "avi" and packet.dts is not None
                intact = max(intact, packet.dts + 1) if counted else intact + 1
            duration = packet.duration or 0
        # AVI has no presentation times. FFmpeg invents them, for these codecs in the wrong order.
        wrong = packed or (container.format.name == "avi" and context.name in ("h264", "hevc"))
        declared, unit, spare = stream.frames, stream.time_base, max(2, stream.frames // 100)
        if "mov" in container.format.name and len(index := stream.index_entries):
            # The header also counts the frames that an edit list cuts off; the index does not.
            cut = index[-1].pos + index[-1].size > size
            declared, spare = (len(index), 0) if cut else (0, 0)
    if declared - intact > spare:
        raise TruncatedError(f"{path}: truncated: the header declares {declared} frames, {intact} were found")
    times = sorted({time for time in shown if time is not None})
    has_timestamps = len(times) == len(shown) and not wrong
    if not has_timestamps and len(times) != coded:
        times, unit = _decoded_times(path)
    if not times:
        raise NoVideoError(f"{path}: the video stream holds no frames")
    step = Fraction(times[-1] - times[0], len(times) - 1) if len(times) > 1 else duration
    starts = array("q", sorted(key for key in keys if key is not None))
    return Video(path, array("q", times), starts, has_timestamps, unit, times[-1] + step, 0, len(times))


def _decoded_times(path: Path) -> tuple[list[int], Fraction | None]:
    """Frame times from the decoder, and their unit; frame numbers if some times are missing or repeated."""
    with open_stream(path, probe=True) as (container, stream), packets_of(container, stream) as packets:
        times = [frame.pts for packet in packets for frame in packet.decode()]
        distinct = sorted({time for time in times if time is not None})
        if len(distinct) == len(times):
            return distinct, stream.time_base
        return list(range(len(times))), 1 / stream.average_rate if stream.average_rate else None


def _matroska_end(path: Path) -> int:
    """Position at which a Matroska or WebM file should end; 0 if unknown, or for other files."""

    def number(at: int) -> tuple[int, int]:
        """(value, width) of an integer whose leading zero bits give its width in bytes; -1: unknown."""
        width = 9 - head[at].bit_length()
        value = int.from_bytes(head[at : at + width], "big") & (1 << 7 * width) - 1
        return (-1 if value == (1 << 7 * width) - 1 else value), width

    head = head_of(path)
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return 0
    value, width = number(4)
    segment = 4 + width + value
    if head[segment : segment + 4] != b"\x18\x53\x80\x67":
        return 0
    value, width = number(segment + 4)
    return segment + 4 + width + value if value >= 0 else 0
