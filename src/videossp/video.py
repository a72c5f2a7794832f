"""Video file or folder of frames -> frames; what cannot be decoded is an error that names the file."""

import os
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".gif")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
# Decoding on is cheaper than a seek when fewer frames than this lie between.
SEEK_GAP = 64

Frames = np.ndarray  # (time, height, width, 3) uint8, RGB


class DataError(ValueError):
    """Data that cannot be found, decoded or understood; the message names the file and says what is wrong."""


@dataclass(frozen=True)
class Video:
    """What a video holds, by its packets rather than by what its header promises.

    Attributes:
        path: the file, or the folder of frames.
        times: presentation time of each frame in display order, in units of the stream; for a
            folder the frame numbers 0, 1, ...
        keys: times of the frames that decoding may start from.
        seconds: duration, or None for a folder of frames.
    """

    path: Path
    times: tuple[int, ...]
    keys: tuple[int, ...]
    seconds: float | None


def is_video(path: Path) -> bool:
    """Whether a path is, by its name, a video file or a folder of frames."""
    if path.is_dir():
        # A folder that also holds videos or folders is a class with a stray picture, not a video.
        others = (x for x in path.iterdir() if x.is_dir() or x.suffix.lower() in VIDEO_SUFFIXES)
        return bool(_images(path)) and not any(others)
    return path.suffix.lower() in VIDEO_SUFFIXES


def _images(folder: Path) -> list[Path]:
    """Frames of a folder, in the order of the numbers in their names."""

    def order(path: Path) -> tuple[list[int], str]:
        return [int(x) for x in re.findall(r"\d+", path.name)], path.name

    files = [x for x in folder.iterdir() if x.suffix.lower() in IMAGE_SUFFIXES and not x.name.startswith(".")]
    return sorted(files, key=order)


def _open(path: Path, **options: object) -> "av.container.InputContainer":
    # "file:" keeps FFmpeg from reading a colon in a name as a protocol.
    return av.open(f"file:{path}", metadata_errors="ignore", **options)  # type: ignore[call-overload, no-any-return]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def read_video(path: str | os.PathLike[str]) -> Video:
    """The frame times of a file, without decoding it, or of a folder of frames.

    Raises:
        DataError: not there, no video in it, or cut short.
    """
    path = Path(path)
    if path.is_dir():
        images = _images(path)
        if not images:
            raise DataError(f"{path}: holds no frames ({', '.join(IMAGE_SUFFIXES)})")
        numbers = tuple(range(len(images)))
        return Video(path, numbers, numbers, None)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    try:
        with _open(path) as container:
            if not container.streams.video:
                raise DataError(f"{path}: no video stream (audio only?)")
            stream = container.streams.video[0]
            whole = [packet for packet in container.demux(stream) if packet.size > 0]
            # An edit list hides packets: they are decoded, for others depend on them, but not shown.
            hidden = {packet.pts for packet in whole if packet.is_discard}
            packets = [(packet.pts, packet.is_keyframe) for packet in whole]
            promised, base = stream.frames, stream.time_base
            if any(time is None for time, _ in packets):
                # Some AVI files carry no presentation times; only the decoder knows them then.
                container.seek(0)
                packets = [(frame.pts, i == 0) for i, frame in enumerate(container.decode(stream))]
    except (FFmpegError, OSError) as error:
        raise DataError(f"{path}: not a readable video: {_reason(error)}") from error
    times = sorted({time for time, _ in packets if time is not None} - hidden)
    if not times:
        raise DataError(f"{path}: the video stream holds no frames")
    if promised - len(packets) > max(2, promised // 100):
        raise DataError(f"{path}: cut short: its header promises {promised} frames, it holds {len(packets)}")
    keys = tuple(sorted(time for time, key in packets if key and time is not None))
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0
    seconds = float((times[-1] - times[0] + step) * base) if base else None
    return Video(path, tuple(times), keys or times[:1], seconds)  # type: ignore[arg-type]


def read_frames(
    path: str | os.PathLike[str] | Video, choose: Callable[[int], Sequence[int]] | None = None
) -> Frames:
    """Decoded frames, upright (the file's rotation applied).

    Goes forward through the file and seeks only over long gaps, so that the frames are those of a
    decode from the start.

    Args:
        path: a file, a folder of frames, or what `read_video` returned for it.
        choose: frame count -> indices of the wanted frames, in any order, repeats allowed. None: all.

    Returns:
        (time, height, width, 3) uint8, in the order of the indices.

    Raises:
        DataError: a wanted frame cannot be decoded. No other frame is ever put in its place.
    """
    video = path if isinstance(path, Video) else read_video(path)
    count = len(video.times)
    indices = list(range(count)) if choose is None else [int(i) for i in choose(count)]
    if not indices or min(indices) < 0 or max(indices) >= count:
        raise DataError(f"{video.path}: frames {indices} asked for, it has {count}")
    try:
        if video.path.is_dir():
            images = _decode_images(video, indices)
        else:
            images = _decode(video, indices, seek=True)
            if len(images) < len(set(indices)):
                # Some containers (AVI, MPEG) seek only roughly: what a seek overshot, a full pass finds.
                images = _decode(video, indices, seek=False)
    except (FFmpegError, OSError) as error:
        raise DataError(f"{video.path}: damaged, cannot be decoded: {_reason(error)}") from error
    missing = sorted(set(indices) - set(images))
    if missing:
        raise DataError(f"{video.path}: damaged: frame {missing[0]} of {count} cannot be decoded")
    sizes = {image.shape for image in images.values()}
    if len(sizes) > 1:
        raise DataError(f"{video.path}: the frame size changes within the video: {sorted(sizes)}")
    return np.stack([images[i] for i in indices])


def _decode(video: Video, indices: list[int], *, seek: bool) -> dict[int, np.ndarray]:
    wanted = {video.times[i]: i for i in indices}
    found: dict[int, np.ndarray] = {}
    with _open(video.path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "SLICE"  # frame threads can deadlock when a decode is left early
        position = 0
        for target in sorted(wanted):
            if wanted[target] in found:
                continue
            key = video.keys[max(0, bisect_right(video.keys, target) - 1)]
            far = seek and bisect_right(video.times, key) - position > SEEK_GAP
            if far:
                container.seek(key, stream=stream, backward=True)
            if far or position == 0:
                frames = container.decode(stream)
            for frame in frames:
                if frame.pts in wanted and wanted[frame.pts] not in found:
                    if frame.is_corrupt:
                        raise DataError(f"{video.path}: damaged: frame {wanted[frame.pts]} is corrupt")
                    found[wanted[frame.pts]] = _upright(frame)
                if frame.pts is not None and frame.pts >= target:
                    position = bisect_right(video.times, frame.pts)
                    break
    return found


def _decode_images(video: Video, indices: list[int]) -> dict[int, np.ndarray]:
    images = _images(video.path)
    found: dict[int, np.ndarray] = {}
    for i in set(indices):
        try:
            # Without pattern_type, image2 would read a percent sign in a name as a number's place.
            with _open(images[i], format="image2", options={"pattern_type": "none"}) as container:
                found[i] = _upright(next(container.decode(video=0)))
        except (FFmpegError, OSError, StopIteration) as error:
            raise DataError(f"{images[i]}: not a readable image: {_reason(error)}") from error
    return found


def _upright(frame: "av.VideoFrame") -> np.ndarray:
    """The frame as (height, width, 3) RGB, turned by its display rotation (degrees, counter-clockwise)."""
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), quarter_turns))
