"""`read_frames`: decode selected frames of a video."""

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

import numpy as np
from av.error import FFmpegError

from videossp.data.video.container import as_data_error, can_skip_frames, open_stream, packets_of
from videossp.data.video.images import read_images
from videossp.data.video.index import Video, read_video
from videossp.data.video.orientation import upright
from videossp.errors import DataError

# Reading on is cheaper and safer than seeking if fewer frames than this are between.
SEEK_GAP = 256

Frames = np.ndarray  # (time, height, width, 3) uint8, RGB


def read_frames(
    path: str | os.PathLike[str] | Video, choose: Callable[[int], Sequence[int]] | None = None
) -> Frames:
    """Decode frames, with the file's rotation applied; bit-identical to decoding from the start.

    Damage is detected where the decoder detects it, also in a frame that a wanted frame refers to. This is
    no checksum. Of single flipped bits the AV1 decoder detects most, those of H.264, MPEG-4 and MPEG-2 about
    half, those of HEVC, VP8 and VP9 hardly any; the others give wrong pixels.

    Args:
        path: a file, a folder of frames, or the result of `read_video` for it.
        choose: function from the number of frames to the indices of the wanted ones, in any order, repeats
            allowed. None: all.

    Returns:
        (time, height, width, 3) uint8, in the order of the indices.

    Raises:
        DataError: a wanted frame cannot be decoded. No other frame replaces it.
    """
    video = path if isinstance(path, Video) else read_video(path)
    count = len(video)
    indices = list(range(count)) if choose is None else [int(i) for i in choose(count)]
    if not indices or min(indices) < 0 or max(indices) >= count:
        raise DataError(f"{video.path}: frames {indices} asked for, it has {count}")
    positions = [video.first + i for i in indices]
    if video.path.is_dir():
        images = read_images(video.path, len(video.times), set(positions))
    else:
        images = _decode(video, set(positions))
    missing = sorted(set(positions) - set(images))
    if missing:
        raise DataError(f"{video.path}: damaged: frame {missing[0]} of {len(video.times)} cannot be decoded")
    sizes = {image.shape for image in images.values()}
    if len(sizes) > 1:
        raise DataError(f"{video.path}: the frame size changes within the video: {sorted(sizes)}")
    return np.stack([images[i] for i in positions])


def _decode(video: Video, positions: set[int]) -> dict[int, np.ndarray]:
    """Frames by their position in `video.times`: the fast ways first, then the safe one."""
    # Some containers (AVI, MPEG) seek inexactly. If a seek overshoots, the second try reads on instead.
    gaps = (SEEK_GAP, len(video.times)) if len(video.times) > SEEK_GAP else (SEEK_GAP,)
    for gap in gaps if video.has_timestamps and video.keys else ():
        with suppress(FFmpegError, OSError):
            images = _decode_needed(video, positions, gap)
            if len(images) == len(positions):
                return images
    with as_data_error(video.path, "damaged, cannot be decoded"):
        return _decode_all(video, positions)


def _decode_needed(video: Video, positions: set[int], gap: int) -> dict[int, np.ndarray]:
    """Decode from the key frame before each wanted frame up to that frame.

    Args:
        gap: number of frames from which on seeking is preferred to reading on.

    Returns:
        Frames by position; fewer than wanted if anything is in doubt.
    """
    wanted = {video.times[i]: i for i in positions}
    needed: dict[int, set[int]] = {}  # times of wanted frames by the time of the key frame before them
    for time in wanted:
        key = video.keys[max(0, bisect_right(video.keys, time) - 1)]
        needed.setdefault(key, set()).add(time)
    images: dict[int, np.ndarray] = {}
    with open_stream(video.path) as (container, stream), ExitStack() as stack:
        context, skipping, position = stream.codec_context, can_skip_frames(stream), 0
        packets = stack.enter_context(packets_of(container, stream))
        for key in sorted(needed):
            if key not in needed:
                continue  # decoded on the way to an earlier frame
            if bisect_left(video.times, key) - position > gap:
                container.seek(key, stream=stream)
                packets = stack.enter_context(packets_of(container, stream))
            waiting: set[int] = set()  # times of wanted frames whose packets have not been read yet
            for packet in packets:
                if packet.is_keyframe and packet.pts in needed:
                    waiting |= needed.pop(packet.pts)
                    position = bisect_left(video.times, max(waiting))
                if not waiting:
                    continue
                if skipping:
                    # Skip frames that no other frame refers to. The setting holds for this packet alone,
                    # because the decoder has no threads that work on several.
                    context.skip_frame = "DEFAULT" if packet.pts in waiting else "NONREF"
                frames = context.decode(packet)
                waiting.discard(packet.pts)
                if not waiting:
                    # The decoder has all wanted packets: flush the frames and get ready for a key frame.
                    frames += context.decode(None)
                    context.flush_buffers()
                for frame in frames:
                    if frame.is_corrupt and (frame.pts is None or frame.pts >= key):
                        return {}
                    if frame.pts in wanted and wanted[frame.pts] not in images:
                        images[wanted[frame.pts]] = upright(frame, video.path)
                if not waiting:
                    break
    return images


def _decode_all(video: Video, positions: set[int]) -> dict[int, np.ndarray]:
    """Decode from the start. This is slow, and it defines which frame is which."""
    count = len(video.times)
    wanted = {video.times[i]: i for i in positions}
    images: dict[int, np.ndarray] = {}
    corrupt: int | None = None  # number of a damaged frame that the following ones refer to
    with (
        open_stream(video.path, probe=True) as (container, stream),
        packets_of(container, stream) as packets,
    ):
        frames = (frame for packet in packets for frame in packet.decode())
        for number, frame in enumerate(frames):
            position = wanted.get(frame.pts) if video.has_timestamps else number
            if frame.is_corrupt:
                corrupt = number
            elif frame.key_frame:
                corrupt = None
            if position in positions and position not in images:
                if corrupt is not None:
                    raise DataError(f"{video.path}: damaged: frame {corrupt} of {count} is corrupt")
                images[position] = upright(frame, video.path)
                if len(images) == len(positions):
                    break
    return images
