"""`Video`: the frame times of a file, by its packets; or of a folder of frames."""

import os
import re
import stat
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from av.error import FFmpegError

from videossp.data.video.container import explained, head_of, opened, packets_of, reason_of
from videossp.errors import DataError, NoVideoError, TruncatedError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".gif")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
# DivX and Xvid can pack a B-frame into the packet of the frame before it: the times of the two are then
# each other's. Such a stream says so.
PACKED = re.compile(rb"DivX\d+(b|Build)\d+p")


@dataclass(frozen=True)
class Video:
    """What a video holds, by its packets rather than by what its header promises; or a part of it.

    `len` counts the frames that are shown, which are those that `read_frames` numbers from 0.

    Attributes:
        path: the file, or the folder of frames.
        times: presentation time of each frame of the file in display order; for a folder 0, 1, ...
        keys: times of the frames that decoding may start from.
        timed: whether a packet has the time of the frame in it; if not, only a decode of all finds a frame.
        unit: seconds per unit of `times`; None where there is no rate.
        over: the time at which the file's last frame ends.
        first, stop: the frames shown are those of `times[first:stop]`.
    """

    path: Path
    times: Sequence[int]
    keys: Sequence[int]
    timed: bool
    unit: Fraction | None
    over: Fraction | int
    first: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.first

    @property
    def seconds(self) -> float | None:
        """Duration of what is shown, or None for a folder of frames."""
        over = self.times[self.stop] if self.stop < len(self.times) else self.over
        return None if self.unit is None else float((over - self.times[self.first]) * self.unit)


def read_video(path: str | os.PathLike[str], start: float | None = None, end: float | None = None) -> Video:
    """The frame times of a file, without decoding it, or of a folder of frames.

    That a file is cut short is noticed where it says how long it should be: MP4, AVI, Matroska, WebM.
    An MPEG stream or a GIF says nothing; what is left of it is a shorter video.

    Args:
        start, end: show only the frames from `start` on, and before `end`: seconds from the first frame.

    Raises:
        NoVideoError: no video stream or no frame in it.
        Truncated: cut short.
        DataError: not there, not a video, a frame larger than `max_pixels`, or no frame between the times.
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
        return _part(Video(path, range(count), (), False, None, count, 0, count), start, end)
    if not stat.S_ISREG(info.st_mode):
        raise DataError(f"{path}: not a regular file")  # to read a pipe could take for ever
    if info.st_size == 0:
        raise NoVideoError(f"{path}: the file is empty")
    return _part(_scan(path, info.st_size, info.st_mtime_ns), start, end)


def _part(video: Video, start: float | None, end: float | None) -> Video:
    if start is None and end is None:
        return video
    window = f"{start or 0:g} to {'the end' if end is None else f'{end:g}'} s"
    if video.unit is None:
        raise DataError(f"{video.path}: frames without a rate, {window} cannot be found in it")
    unit, zero = video.unit, video.times[0]
    if not 0 <= (start or 0) < (float("inf") if end is None else end):
        raise DataError(f"{video.path}: {window} is no part of a video")

    def seconds(time: int) -> float:
        return float((time - zero) * unit)  # rounded once, as a number in a table of times is

    first = bisect_left(video.times, start or 0, key=seconds)
    stop = len(video.times) if end is None else bisect_left(video.times, end, key=seconds)
    if first >= stop:
        raise DataError(f"{video.path}: no frame in {window}, it has {video.seconds or 0:g} s")
    return replace(video, first=first, stop=stop)


# The parts of a long video are read one after another; to scan it takes longer than to decode a part.
@lru_cache(maxsize=256)
def _scan(path: Path, size: int, changed: int) -> Video:
    """The packets of a file; `size` and `changed` (a time) say whether it is still the one read before."""
    with suppress(FFmpegError, OSError):
        return _read_packets(path)
    with explained(path, "not a readable video"):
        return _read_packets(path)


def _read_packets(path: Path) -> Video:
    if (end := _matroska_end(path)) > (size := path.stat().st_size):
        raise TruncatedError(f"{path}: cut short: its header promises {end} bytes, it has {size}")
    shown: list[int | None] = []
    keys: list[int | None] = []
    packed, coded, whole, duration = False, 0, 0, 0
    with opened(path) as (container, stream), packets_of(container, stream) as packets:
        context = stream.codec_context
        for packet in packets:
            if packet.size == 0:
                continue
            if not shown:
                packed = bool(PACKED.search(bytes(packet) + (context.extradata or b"")))
            if context.name == "vp8" and not bytes(packet)[0] & 0x10:
                continue  # an alternate reference: decoded, for others are made of it, but never shown
            # The place of a packed frame is taken by a few bytes that code nothing.
            coded += bytes(packet).count(b"\x00\x00\x01\xb6") - (packet.size < 20) if packed else 1
            # An edit list hides packets: they are decoded, for others depend on them, but not shown.
            if not packet.is_discard:
                shown.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
            if not packet.is_corrupt:
                # AVI has a chunk of nothing where a frame is shown again; it counts in the header, too.
                counted = container.format.name == "avi" and packet.dts is not None
                whole = max(whole, packet.dts + 1) if counted else whole + 1
            duration = packet.duration or 0
        # AVI has no display times; FFmpeg makes them up, and for these codecs gives them to the wrong frames.
        wrong = packed or (container.format.name == "avi" and context.name in ("h264", "hevc"))
        promised, unit, spare = stream.frames, stream.time_base, max(2, stream.frames // 100)
        if "mov" in container.format.name and len(index := stream.index_entries):
            # The header counts the frames that an edit list cuts off, too; the index does not.
            cut = index[-1].pos + index[-1].size > size
            promised, spare = (len(index), 0) if cut else (0, 0)
    if promised - whole > spare:
        raise TruncatedError(f"{path}: cut short: its header promises {promised} frames, it holds {whole}")
    times = sorted({time for time in shown if time is not None})
    timed = len(times) == len(shown) and not wrong
    if not timed and len(times) != coded:
        times, unit = _decoded_times(path)
    if not times:
        raise NoVideoError(f"{path}: the video stream holds no frames")
    step = Fraction(times[-1] - times[0], len(times) - 1) if len(times) > 1 else duration
    starts = array("q", sorted(key for key in keys if key is not None))
    return Video(path, array("q", times), starts, timed, unit, times[-1] + step, 0, len(times))


def _decoded_times(path: Path) -> tuple[list[int], Fraction | None]:
    """Times of the frames that the decoder gives, and their unit; numbers where it gives no sound times."""
    with opened(path, probe=True) as (container, stream), packets_of(container, stream) as packets:
        times = [frame.pts for packet in packets for frame in packet.decode()]
        sound = sorted({time for time in times if time is not None})
        if len(sound) == len(times):
            return sound, stream.time_base
        return list(range(len(times))), 1 / stream.average_rate if stream.average_rate else None


def _matroska_end(path: Path) -> int:
    """Where the contents of a Matroska or WebM file should end; 0 if it does not say, or is another file."""

    def number(at: int) -> tuple[int, int]:
        """(value, width) of a number whose leading zeros tell how many bytes it has; -1: unknown."""
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


def is_video(path: Path) -> bool:
    """Whether a path is, by its name, a video file or a folder of frames."""
    if path.is_dir():
        # A folder that also holds videos or folders is a class with a stray picture, not a video.
        others = (x for x in path.iterdir() if x.is_dir() or x.suffix.lower() in VIDEO_SUFFIXES)
        return bool(images_of(path)) and not any(others)
    return path.suffix.lower() in VIDEO_SUFFIXES


def images_of(folder: Path) -> list[Path]:
    """Frames of a folder, in the order of the numbers in their names."""

    def order(path: Path) -> tuple[list[int], str]:
        return [int(x) for x in re.findall(r"\d+", path.name)], path.name

    files = [x for x in folder.iterdir() if x.suffix.lower() in IMAGE_SUFFIXES and not x.name.startswith(".")]
    return sorted(files, key=order)
