"""Video file or folder of frames -> frames; what cannot be decoded is an error that names the file."""

import multiprocessing
import os
import re
import stat
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".gif")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
# A larger frame is refused before there is memory for it: 8K passes.
MAX_PIXELS = 8192 * 4320
# To read on is cheaper than to seek, and surer, when fewer frames than this lie between.
SEEK_GAP = 256
# Formats that hold the presentation time of each frame: nothing has to be decoded to open them.
TIMED = {"mov", "matroska", "gif", "image2"}
# Codecs whose decoders know, before they decode it, that no other frame is made of a frame.
SKIPPING = {"h264", "mpeg4", "mpeg2video", "mpeg1video"}
# DivX and Xvid can pack a B-frame into the packet of the frame before it: the times of the two are then
# each other's. Such a stream says so.
PACKED = re.compile(rb"DivX\d+(b|Build)\d+p")

Frames = np.ndarray  # (time, height, width, 3) uint8, RGB


class DataError(ValueError):
    """Data that cannot be found, decoded or understood; the message names the file and says what is wrong."""


class NoVideo(DataError):
    """A file or folder without a single frame."""


class Truncated(DataError):
    """A file that ends too early."""


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


def max_pixels() -> int:
    """Pixels of the largest frame that is decoded: the environment's VIDEOSSP_MAX_PIXELS, or MAX_PIXELS.

    Raises:
        ValueError: the variable is not a whole number above 0.
    """
    value = os.environ.get("VIDEOSSP_MAX_PIXELS", str(MAX_PIXELS))
    if not value.isdecimal() or int(value) == 0:
        raise ValueError(f"VIDEOSSP_MAX_PIXELS must be a number of pixels (width x height), got {value!r}")
    return int(value)


def is_video(path: Path) -> bool:
    """Whether a path is, by its name, a video file or a folder of frames."""
    if path.is_dir():
        # A folder that also holds videos or folders is a class with a stray picture, not a video.
        others = (x for x in path.iterdir() if x.is_dir() or x.suffix.lower() in VIDEO_SUFFIXES)
        return bool(_images(path)) and not any(others)
    return path.suffix.lower() in VIDEO_SUFFIXES


def read_video(path: str | os.PathLike[str], start: float | None = None, end: float | None = None) -> Video:
    """The frame times of a file, without decoding it, or of a folder of frames.

    That a file is cut short is noticed where it says how long it should be: MP4, AVI, Matroska, WebM.
    An MPEG stream or a GIF says nothing; what is left of it is a shorter video.

    Args:
        start, end: show only the frames from `start` on, and before `end`: seconds from the first frame.

    Raises:
        NoVideo: no video stream or no frame in it.
        Truncated: cut short.
        DataError: not there, not a video, a frame larger than `max_pixels`, or no frame between the times.
    """
    path = Path(path)
    try:
        info = path.stat()
        images = _images(path) if stat.S_ISDIR(info.st_mode) else []
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{path}: no such file or folder") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {_reason(error)}") from error
    if stat.S_ISDIR(info.st_mode):
        if not images:
            raise NoVideo(f"{path}: holds no frames ({', '.join(IMAGE_SUFFIXES)})")
        count = len(images)
        return _part(Video(path, range(count), (), False, None, count, 0, count), start, end)
    if not stat.S_ISREG(info.st_mode):
        raise DataError(f"{path}: not a regular file")  # to read a pipe could take for ever
    if info.st_size == 0:
        raise NoVideo(f"{path}: the file is empty")
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
    with _explained(path, "not a readable video"):
        return _read_packets(path)


def _read_packets(path: Path) -> Video:
    if (end := _matroska_end(path)) > (size := path.stat().st_size):
        raise Truncated(f"{path}: cut short: its header promises {end} bytes, it has {size}")
    shown: list[int | None] = []
    keys: list[int | None] = []
    packed, coded, whole, duration = False, 0, 0, 0
    with _opened(path) as (container, stream), _packets(container, stream) as packets:
        context = stream.codec_context
        for packet in packets:
            if packet.size == 0:
                continue
            if not shown:
                packed = bool(PACKED.search(bytes(packet) + (context.extradata or b"")))
            # The place of a packed frame is taken by a few bytes that code nothing.
            coded += bytes(packet).count(b"\x00\x00\x01\xb6") - (packet.size < 20) if packed else 1
            # An edit list hides packets: they are decoded, for others depend on them, but not shown.
            if not packet.is_discard:
                shown.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
            whole += not packet.is_corrupt
            duration = packet.duration or 0
        # AVI has no display times; FFmpeg makes them up, and for these codecs gives them to the wrong frames.
        wrong = packed or (container.format.name == "avi" and context.name in ("h264", "hevc"))
        promised, unit, spare = stream.frames, stream.time_base, max(2, stream.frames // 100)
        if "mov" in container.format.name and len(index := stream.index_entries):
            # The header counts the frames that an edit list cuts off, too; the index does not.
            cut = index[-1].pos + index[-1].size > size
            promised, spare = (len(index), 0) if cut else (0, 0)
    if promised - whole > spare:
        raise Truncated(f"{path}: cut short: its header promises {promised} frames, it holds {whole}")
    times = sorted({time for time in shown if time is not None})
    timed = len(times) == len(shown) and not wrong
    if not timed and len(times) != coded:
        times, unit = _decoded_times(path)
    if not times:
        raise NoVideo(f"{path}: the video stream holds no frames")
    step = Fraction(times[-1] - times[0], len(times) - 1) if len(times) > 1 else duration
    starts = array("q", sorted(key for key in keys if key is not None))
    return Video(path, array("q", times), starts, timed, unit, times[-1] + step, 0, len(times))


def _decoded_times(path: Path) -> tuple[list[int], Fraction | None]:
    """Times of the frames that the decoder gives, and their unit; numbers where it gives no sound times."""
    with _opened(path, probe=True) as (container, stream), _packets(container, stream) as packets:
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

    head = _head(path)
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return 0
    value, width = number(4)
    segment = 4 + width + value
    if head[segment : segment + 4] != b"\x18\x53\x80\x67":
        return 0
    value, width = number(segment + 4)
    return segment + 4 + width + value if value >= 0 else 0


def read_frames(
    path: str | os.PathLike[str] | Video, choose: Callable[[int], Sequence[int]] | None = None
) -> Frames:
    """Decoded frames, upright (the file's rotation applied), bit by bit those of a decode from the start.

    Damage is noticed where the decoder notices it, also in a frame that a wanted one is made of. That
    is no checksum: of single flipped bits, the H.264, MPEG-4 and MPEG-2 decoders notice about half, the
    HEVC, VP9 and AV1 decoders hardly any; the others are wrong pixels in frames that look whole.

    Args:
        path: a file, a folder of frames, or what `read_video` returned for it.
        choose: frame count -> indices of the wanted frames, in any order, repeats allowed. None: all.

    Returns:
        (time, height, width, 3) uint8, in the order of the indices.

    Raises:
        DataError: a wanted frame cannot be decoded. No other frame is ever put in its place.
    """
    video = path if isinstance(path, Video) else read_video(path)
    count = len(video)
    indices = list(range(count)) if choose is None else [int(i) for i in choose(count)]
    if not indices or min(indices) < 0 or max(indices) >= count:
        raise DataError(f"{video.path}: frames {indices} asked for, it has {count}")
    places = [video.first + i for i in indices]
    images = (_decode_images if video.path.is_dir() else _decode)(video, set(places))
    missing = sorted(set(places) - set(images))
    if missing:
        raise DataError(f"{video.path}: damaged: frame {missing[0]} of {len(video.times)} cannot be decoded")
    sizes = {image.shape for image in images.values()}
    if len(sizes) > 1:
        raise DataError(f"{video.path}: the frame size changes within the video: {sorted(sizes)}")
    return np.stack([images[i] for i in places])


def _decode(video: Video, places: set[int]) -> dict[int, np.ndarray]:
    """Frames by their place in `video.times`; the quick ways first, and where in doubt the sure one."""
    # Some containers (AVI, MPEG) seek only roughly: what a seek overshot, reading on finds.
    gaps = (SEEK_GAP, len(video.times)) if len(video.times) > SEEK_GAP else (SEEK_GAP,)
    for gap in gaps if video.timed and video.keys else ():
        with suppress(FFmpegError, OSError):
            images = _decode_needed(video, places, gap)
            if len(images) == len(places):
                return images
    with _explained(video.path, "damaged, cannot be decoded"):
        return _decode_all(video, places)


def _decode_needed(video: Video, places: set[int], gap: int) -> dict[int, np.ndarray]:
    """Decode what the wanted frames are made of: from the key frame before each up to the frame itself.

    Returns:
        Frames by place; fewer than asked for where anything is in doubt.
    """
    wanted = {video.times[i]: i for i in places}
    needed: dict[int, set[int]] = {}  # times of the wanted frames by the key frame that they start from
    for time in wanted:
        key = video.keys[max(0, bisect_right(video.keys, time) - 1)]
        needed.setdefault(key, set()).add(time)
    found: dict[int, np.ndarray] = {}
    with _opened(video.path) as (container, stream), ExitStack() as stack:
        context, skips, here = stream.codec_context, _skips(stream), 0
        packets = stack.enter_context(_packets(container, stream))
        for key in sorted(needed):
            if key not in needed:
                continue  # it was on the way of the one before
            if bisect_left(video.times, key) - here > gap:
                container.seek(key, stream=stream)
                packets = stack.enter_context(_packets(container, stream))
            waiting: set[int] = set()  # wanted frames whose packets are still to come
            for packet in packets:
                if packet.is_keyframe and packet.pts in needed:
                    waiting |= needed.pop(packet.pts)
                    here = bisect_left(video.times, max(waiting))
                if not waiting:
                    continue
                if skips:
                    # Frames that no other is made of are passed over. The decoder works on this packet
                    # alone, for it has no threads that work on several.
                    context.skip_frame = "DEFAULT" if packet.pts in waiting else "NONREF"
                frames = context.decode(packet)
                waiting.discard(packet.pts)
                if not waiting:
                    # All that is wanted has gone in; the decoder gives it out and is ready for a key frame.
                    frames += context.decode(None)
                    context.flush_buffers()
                for frame in frames:
                    if frame.is_corrupt and (frame.pts is None or frame.pts >= key):
                        return {}
                    if frame.pts in wanted and wanted[frame.pts] not in found:
                        found[wanted[frame.pts]] = _upright(frame, video.path)
                if not waiting:
                    break
    return found


def _decode_all(video: Video, places: set[int]) -> dict[int, np.ndarray]:
    """Decode from the start: slow, and the definition of what the frames are."""
    count = len(video.times)
    wanted = {video.times[i]: i for i in places}
    found: dict[int, np.ndarray] = {}
    corrupt: int | None = None  # a frame that the next ones are made of
    with (
        _opened(video.path, probe=True) as (container, stream),
        _packets(container, stream) as packets,
    ):
        frames = (frame for packet in packets for frame in packet.decode())
        for number, frame in enumerate(frames):
            place = wanted.get(frame.pts) if video.timed else number
            if frame.is_corrupt:
                corrupt = number
            elif frame.key_frame:
                corrupt = None
            if place in places and place not in found:
                if corrupt is not None:
                    raise DataError(f"{video.path}: damaged: frame {corrupt} of {count} is corrupt")
                found[place] = _upright(frame, video.path)
                if len(found) == len(places):
                    break
    return found


def _decode_images(video: Video, places: set[int]) -> dict[int, np.ndarray]:
    images = _images(video.path)
    if len(images) != len(video.times):
        raise DataError(f"{video.path}: had {len(video.times)} frames, has {len(images)} now")
    return {i: _decode_image(images[i]) for i in places}


def _decode_image(path: Path) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"{path}: not a regular file")  # to read a pipe could take for ever

    def decode() -> np.ndarray:
        # Without pattern_type, image2 would read a percent sign in a name as a number's place.
        with (
            _opened(path, format="image2", options={"pattern_type": "none"}) as (container, stream),
            _packets(container, stream) as packets,
        ):
            for frame in (frame for packet in packets for frame in packet.decode()):
                return _upright(frame, path)
        raise DataError(f"{path}: not a readable image: no frame in it")

    with suppress(FFmpegError, OSError):
        return decode()
    with _explained(path, "not a readable image"):
        return decode()


def _images(folder: Path) -> list[Path]:
    """Frames of a folder, in the order of the numbers in their names."""

    def order(path: Path) -> tuple[list[int], str]:
        return [int(x) for x in re.findall(r"\d+", path.name)], path.name

    files = [x for x in folder.iterdir() if x.suffix.lower() in IMAGE_SUFFIXES and not x.name.startswith(".")]
    return sorted(files, key=order)


@contextmanager
def _opened(
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
        raise NoVideo(f"{path}: no video stream (audio only?)")
    stream = streams[0]
    if stream.codec_context is None:
        raise DataError(f"{path}: there is no decoder for its codec")
    limit = max_pixels()
    if stream.width * stream.height > limit:
        raise _too_large(path, stream.width, stream.height)
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


def _packets(container: "av.container.InputContainer", stream: "av.VideoStream") -> closing[Any]:
    """The packets of a stream; PyAV leaks memory where its generator is left early and not closed."""
    return closing(container.demux(stream))


def _skips(stream: "av.VideoStream") -> bool:
    """Whether the decoder can pass over the frames that no other frame is made of."""
    name, extra = stream.codec_context.name, stream.codec_context.extradata or b""
    # HEVC marks the frames that no frame of the same temporal layer is made of: enough if there is one layer.
    one_layer = name == "hevc" and len(extra) > 22 and extra[0] == 1 and extra[21] >> 3 & 7 == 1
    return one_layer or name in SKIPPING


@contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
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
            raise _too_large(path, int(size[1]), int(size[2])) from error
        if "moov atom not found" in text and _head(path)[4:8] in (
            b"ftyp",
            b"mdat",
            b"free",
            b"skip",
            b"wide",
        ):
            raise Truncated(
                f"{path}: cut short: its index (moov), which should end it, is not there"
            ) from error
        raise DataError(f"{path}: {what}: {_reason(error)}") from error
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip)


def _too_large(path: Path, width: int, height: int) -> DataError:
    limit = f"the limit of {max_pixels()} pixels (VIDEOSSP_MAX_PIXELS in the environment raises it)"
    return DataError(f"{path}: a frame of {width}x{height} is larger than {limit}")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(256).ljust(256)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _upright(frame: "av.VideoFrame", path: Path) -> np.ndarray:
    """The frame as (height, width, 3) RGB, turned by its display rotation (degrees, counter-clockwise)."""
    if frame.width * frame.height > max_pixels():
        raise _too_large(path, frame.width, frame.height)
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24", threads=1), quarter_turns))
