"""`read_video`: the times of a video's frames, from its packets or from the decoder."""

import math
import os
import stat
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path

from av.error import FFmpegError

from videossp.data.video.container import as_data_error, open_stream, packets_of, reason_of
from videossp.data.video.files import IMAGE_SUFFIXES, images_of
from videossp.data.video.packets import Packets, read_packets
from videossp.data.video.part import part_of
from videossp.data.video.sequential import usable_frames
from videossp.errors import DataError, NoVideoError

OUT_OF_ORDER = "its frame times are not in order; its frames are decoded from the start and counted"


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
        size: (width, height) of the first frame before any rotation, as far as it is known; or None.
        state: size and time of change of the file, in bytes and nanoseconds; None for a folder.
        increasing: times of the key frames after which times increase from packet to packet. They are right
            if the decoder does not reorder frames there. After the other key frames it must reorder them.
        notes: facts of the file that its user should know, by the id of the doctor's check.
    """

    path: Path
    times: Sequence[int]
    keys: Sequence[int]
    has_timestamps: bool
    unit: Fraction | None
    end_time: Fraction | int
    first: int
    stop: int
    size: tuple[int, int] | None = None
    state: tuple[int, int] | None = None
    increasing: frozenset[int] = frozenset()
    notes: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.stop - self.first

    @property
    def seconds(self) -> float | None:
        """Duration of the video or part; None if there is no frame rate."""
        end = self.times[self.stop] if self.stop < len(self.times) else self.end_time
        return None if self.unit is None else float((end - self.times[self.first]) * self.unit)

    def time_of(self, index: int) -> float | None:
        """Seconds from the first frame of the file to a frame; None if there is no frame rate."""
        if self.unit is None:
            return None
        return float((self.times[self.first + index] - self.times[0]) * self.unit)


def read_video(
    path: str | os.PathLike[str],
    start: float | None = None,
    end: float | None = None,
    *,
    frames: tuple[int, int] | None = None,
) -> Video:
    """Read the frame times of a file or of a folder of frames.

    At most the first frames are decoded, to confirm that decoding can start there. All frames are decoded if
    the times of packets cannot be right, or if the decoder does not mark key frames.

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
        images = images_of(path, frames and frames[1]) if stat.S_ISDIR(info.st_mode) else []
    except DataError:
        raise
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


def state_of(path: Path) -> tuple[int, int] | None:
    """Size and time of change of a file, in bytes and nanoseconds; None if it cannot be reached."""
    with suppress(OSError):
        info = path.stat()
        return info.st_size, info.st_mtime_ns
    return None


# Parts of a long video are read one after the other, and a scan takes longer than decoding a part.
@lru_cache(maxsize=256)
def _scan(path: Path, size: int, changed: int) -> Video:
    """The frame times of a file; its size and time of change are part of the cache key."""
    with suppress(FFmpegError, OSError):
        return _index(path, (size, changed))
    with as_data_error(path, "not a readable video"):
        return _index(path, (size, changed))


def _index(path: Path, state: tuple[int, int]) -> Video:
    """The frame times of a file: those of its packets, unless only decoding can tell."""
    packets = read_packets(path)
    notes: dict[str, str] = {}
    if packets.streams > 1:
        notes["file.streams"] = f"{packets.streams} video streams; the one that a player shows is read"
    times = sorted({time for time in packets.times if time is not None})
    keys: Sequence[int] = sorted({key for key in packets.keys if key is not None})
    unit, increasing = packets.unit, frozenset(keys)
    if not packets.times:
        raise NoVideoError(f"{path}: the video stream holds no frames")
    has_timestamps = packets.timed and len(times) == len(packets.times)
    if not packets.confirmable:
        times, unit, has_timestamps = _decoded_times(path)
        keys = ()
    elif not has_timestamps:
        if len(times) != packets.coded or not packets.starts or _loses_frames(path, packets):
            times, unit, _ = _decoded_times(path)
    else:
        stored = [x for x in packets.times if x is not None]
        in_order, increasing = order_of(stored, keys, packets.never_reorders)
        in_order = in_order and packets.steady
        if in_order and packets.reorders and (packets.invented or {*keys[:1]} & increasing):
            in_order = packets.starts and not _loses_frames(path, packets)
        if not in_order:
            times, unit, has_timestamps = _decoded_times(path)
            increasing = frozenset(keys)
            if not has_timestamps:
                keys = ()
                notes["file.times"] = OUT_OF_ORDER
        elif not packets.starts or times[0] != packets.times[0]:
            usable = _usable_times(path, packets.times[0] or 0)
            late = {x for x in times if usable and x < usable[-1]}.difference(usable)
            times = [x for x in times if x not in late]
        if times and has_timestamps and (late_count := sum(time < times[0] for time in stored)):
            notes["file.starts-late"] = f"its first {late_count} frames cannot be decoded and are left out"
        keys = times if packets.intra_only else keys
    if not times:
        raise NoVideoError(f"{path}: the video stream holds no frames")
    step = Fraction(times[-1] - times[0], len(times) - 1) if len(times) > 1 else packets.duration
    starts = array("q", (key for key in keys if key >= times[0]))
    return Video(
        path,
        array("q", times),
        starts,
        has_timestamps,
        unit,
        times[-1] + step,
        0,
        len(times),
        size=packets.size,
        state=state,
        increasing=increasing,
        notes=notes,
    )


def order_of(times: Sequence[int], keys: Sequence[int], never_reorders: bool) -> tuple[bool, frozenset[int]]:
    """Whether the times of packets can be those of frames in display order.

    In a file that was made by joining others, times begin again. In one that was made from a stream without
    times, the times may count the packets, although the decoder shows their frames in another order.

    Args:
        times: times of the packets, in the order of the file.
        keys: those of them that are marked as key frames.
        never_reorders: whether frames of the codec are always coded in the order in which they are shown.

    Returns:
        Whether times only decrease as the reordering of frames explains, and the times of the key frames
        after which they increase from packet to packet.
    """
    # If all packets are marked, the marks mean nothing.
    groups = set(keys) if len(keys) < len(times) else set()
    increasing = set(keys)
    latest = earliest = before = group = -math.inf  # times of packets; those of `group` follow its key frame
    for time in times:
        if time in groups:
            earliest, group = group, time
        elif time < before:
            increasing.discard(group)
        if time < (latest if time in groups or never_reorders else earliest):
            return False, frozenset()
        latest, before = max(latest, time), time
    return True, frozenset(increasing)


def _usable_times(path: Path, until: int) -> list[int]:
    """Times of the first frames that the decoder shows, up to one at `until` or later, in order.

    Returns:
        [] if they are damaged. Reading these frames gives the error, and later ones may be whole.

    Raises:
        DataError: the decoder shows no frame.
    """
    times: list[int] = []
    with open_stream(path) as (container, stream), packets_of(container, stream) as packets:
        try:
            for frame in usable_frames(packets, stream):
                if frame.pts is not None:
                    times.append(frame.pts)
                    if frame.pts >= until:
                        return sorted(times)
        except FFmpegError:
            return []
    if not times:
        raise DataError(f"{path}: no frame can be decoded: there is no key frame to start at")
    return sorted(times)


def _loses_frames(path: Path, packets: Packets) -> bool:
    """Whether frames coded after the first key frame refer to frames that are not in the file.

    They follow it at once. With right times they are seen without decoding: they are shown before it.
    """
    if not packets.reorders:
        return False
    with open_stream(path) as (container, stream), packets_of(container, stream) as stored:
        first = [packet for packet in islice(stored, 3) if packet.size]
        decode = stream.codec_context.decode
        return sum(len(decode(packet)) for packet in [*first, None]) < len(first)


def _decoded_times(path: Path) -> tuple[list[int], Fraction | None, bool]:
    """(Frame times from the decoder, their unit, whether they are times); else they are frame numbers."""
    with open_stream(path, probe=True) as (container, stream), packets_of(container, stream) as packets:
        shown = [frame.pts for frame in usable_frames(packets, stream)]
        times = [time for time in shown if time is not None]
        if len(times) == len(shown) and all(a < b for a, b in pairwise(times)):
            return times, stream.time_base, True
        return list(range(len(shown))), 1 / stream.average_rate if stream.average_rate else None, False
