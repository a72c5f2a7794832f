"""`read_frames`: decoded frames, those that are asked for."""

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
from av.error import FFmpegError

from videossp.data.video.container import explained, opened, packets_of, skips, upright
from videossp.data.video.index import Video, images_of, read_video
from videossp.errors import DataError

# To read on is cheaper than to seek, and surer, when fewer frames than this lie between.
SEEK_GAP = 256

Frames = np.ndarray  # (time, height, width, 3) uint8, RGB


def read_frames(
    path: str | os.PathLike[str] | Video, choose: Callable[[int], Sequence[int]] | None = None
) -> Frames:
    """Decoded frames, upright (the file's rotation applied), bit by bit those of a decode from the start.

    Damage is noticed where the decoder notices it, also in a frame that a wanted one is made of. That is
    no checksum: of single flipped bits, the AV1 decoder notices most, those of H.264, MPEG-4 and MPEG-2
    about half, those of HEVC, VP8 and VP9 hardly any; the others are wrong pixels in frames that look whole.

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
    with explained(video.path, "damaged, cannot be decoded"):
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
    with opened(video.path) as (container, stream), ExitStack() as stack:
        context, skipping, here = stream.codec_context, skips(stream), 0
        packets = stack.enter_context(packets_of(container, stream))
        for key in sorted(needed):
            if key not in needed:
                continue  # it was on the way of the one before
            if bisect_left(video.times, key) - here > gap:
                container.seek(key, stream=stream)
                packets = stack.enter_context(packets_of(container, stream))
            waiting: set[int] = set()  # wanted frames whose packets are still to come
            for packet in packets:
                if packet.is_keyframe and packet.pts in needed:
                    waiting |= needed.pop(packet.pts)
                    here = bisect_left(video.times, max(waiting))
                if not waiting:
                    continue
                if skipping:
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
                        found[wanted[frame.pts]] = upright(frame, video.path)
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
        opened(video.path, probe=True) as (container, stream),
        packets_of(container, stream) as packets,
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
                found[place] = upright(frame, video.path)
                if len(found) == len(places):
                    break
    return found


def _decode_images(video: Video, places: set[int]) -> dict[int, np.ndarray]:
    images = images_of(video.path)
    if len(images) != len(video.times):
        raise DataError(f"{video.path}: had {len(video.times)} frames, has {len(images)} now")
    return {i: _decode_image(images[i]) for i in places}


def _decode_image(path: Path) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"{path}: not a regular file")  # to read a pipe could take for ever

    def decode() -> np.ndarray:
        # Without pattern_type, image2 would read a percent sign in a name as a number's place.
        with (
            opened(path, format="image2", options={"pattern_type": "none"}) as (container, stream),
            packets_of(container, stream) as packets,
        ):
            for frame in (frame for packet in packets for frame in packet.decode()):
                return upright(frame, path)
        raise DataError(f"{path}: not a readable image: no frame in it")

    with suppress(FFmpegError, OSError):
        return decode()
    with explained(path, "not a readable image"):
        return decode()
