"""`read_frames`: decode selected frames of a video."""

import math
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from videossp.data.video.codecs import can_skip_frames, is_intra_only
from videossp.data.video.container import as_data_error, open_stream, packets_of
from videossp.data.video.images import read_images
from videossp.data.video.index import OUT_OF_ORDER, Video, read_video, state_of
from videossp.data.video.orientation import upright
from videossp.data.video.sequential import usable_frames
from videossp.errors import DataError

# Reading on is cheaper and safer than seeking if fewer frames than this are between.
SEEK_GAP = 256
WRONG_KEYS = "frames that it marks as key frames are not key frames; all are decoded from the start"

Frames = np.ndarray  # (time, height, width, 3) uint8, RGB


def read_frames(
    path: str | os.PathLike[str] | Video, choose: Callable[[int], Sequence[int]] | None = None
) -> Frames:
    """Decode frames, upright as a player shows them; bit-identical to decoding from the start.

    docs/data.md lists the known exceptions.

    Damage is detected where the decoder detects it, also in a frame that a wanted frame refers to. This is
    no checksum. Of single flipped bits the AV1 decoder detects most, those of H.264, MPEG-4 and MPEG-2 about
    half, those of HEVC, VP8 and VP9 hardly any; the others give wrong pixels.

    If the frame size changes within a video, frames of another size are scaled to that of the first frame.

    Args:
        path: a file, a folder of frames, or the result of `read_video` for it.
        choose: function from the number of frames to the indices of the wanted ones, in any order, repeats
            allowed. None: all.

    Returns:
        (time, height, width, 3) uint8, in the order of the indices.

    Raises:
        DataError: a wanted frame cannot be decoded. No other frame replaces it.
    """
    return read_frames_and_notes(path, choose)[0]


def read_frames_and_notes(
    path: str | os.PathLike[str] | Video, choose: Callable[[int], Sequence[int]] | None = None
) -> tuple[Frames, dict[str, str]]:
    """Decode frames; see `read_frames`.

    Returns:
        The frames, and facts that their user should know, by the id of the doctor's check; also those of the
        `Video`.
    """
    video = path if isinstance(path, Video) else read_video(path)
    count = len(video)
    indices = list(range(count)) if choose is None else [int(i) for i in choose(count)]
    if not indices or min(indices) < 0 or max(indices) >= count:
        raise DataError(f"{video.path}: frames {indices} asked for, it has {count}")
    positions = [video.first + i for i in indices]
    decoded = _Decoded(dict(video.notes))
    if video.path.is_dir():
        decoded.images = read_images(video.path, len(video.times), set(positions))
    elif video.state != state_of(video.path):
        raise DataError(f"{video.path}: has changed since it was opened; read it again")
    else:
        _decode(video, set(positions), decoded)
    images = decoded.images
    missing = sorted(set(positions) - set(images))
    if missing:
        raise DataError(f"{video.path}: damaged: frame {missing[0]} of {len(video.times)} cannot be decoded")
    if decoded.resized:
        first = _Decoded()
        _decode(video, {0}, first)
        height, width, _ = first.images[0].shape
        if any(x.shape[:2] != (height, width) for x in images.values()):
            text = f"its frame size changes; frames are scaled to {width} x {height}"
            decoded.notes["file.size-changes"] = text
            images = {i: scaled(x, height, width) for i, x in images.items()}
    sizes = {image.shape for image in images.values()}
    if len(sizes) > 1:
        raise DataError(f"{video.path}: the frame size changes within the video: {sorted(sizes)}")
    return np.stack([images[i] for i in positions]), decoded.notes


@dataclass
class _Decoded:
    """Decoded frames.

    Attributes:
        notes: see `read_frames_and_notes`.
        images: frames by their position in `Video.times`.
        resized: whether a frame is not of the size that the first one should have.
    """

    notes: dict[str, str] = field(default_factory=dict)
    images: dict[int, np.ndarray] = field(default_factory=dict)
    resized: bool = False

    def add(self, position: int, frame: "av.VideoFrame", size: tuple[int, int], path: Path) -> None:
        """Add a frame, upright; `size` is the expected (width, height) before that."""
        self.images[position] = upright(frame, path)
        self.resized = self.resized or (frame.width, frame.height) != size


def scaled(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """RGB pixels (height, width, 3), scaled to another size (bicubic, as FFmpeg does by default)."""
    if pixels.shape[:2] == (height, width):
        return pixels
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    return frame.reformat(width, height, interpolation="BICUBIC").to_ndarray()


def _decode(video: Video, positions: set[int], decoded: _Decoded) -> None:
    """Add the frames with these positions in `video.times`: the fast ways first, then the safe one."""
    # Some containers (AVI, MPEG) seek inexactly. If a seek overshoots, the second try reads on instead.
    gaps = (SEEK_GAP, len(video.times)) if len(video.times) > SEEK_GAP else (SEEK_GAP,)
    for gap in gaps if video.has_timestamps and video.keys else ():
        with suppress(FFmpegError, OSError):
            if _decode_needed(video, positions, gap, decoded):
                return
    decoded.images.clear()
    with as_data_error(video.path, "damaged, cannot be decoded"):
        _decode_all(video, positions, decoded)


def _decode_needed(video: Video, positions: set[int], gap: int, decoded: _Decoded) -> bool:
    """Decode from the key frame before each wanted frame up to that frame.

    Args:
        gap: number of frames from which on seeking is preferred to reading on.

    Returns:
        False if not all were decoded, or if the frames do not confirm the container: decoding did not start
        at a key frame, or they are not in the order of their times.
    """
    times, images, wanted = video.times, decoded.images, {video.times[i]: i for i in positions}
    images.clear()
    decoded.notes = dict(video.notes)  # after a seek to a wrong place, the try before noted wrong marks
    needed: dict[int, set[int]] = {}  # times of wanted frames by the time of the key frame before them
    for time in wanted:
        key = video.keys[max(0, bisect_right(video.keys, time) - 1)]
        needed.setdefault(key, set()).add(time)
    with open_stream(video.path) as (container, stream), ExitStack() as stack:
        context, size, position = stream.codec_context, video.size or (stream.width, stream.height), 0
        skipping, intra_only = can_skip_frames(context), is_intra_only(context)
        packets = stack.enter_context(packets_of(container, stream))
        for key in sorted(needed):
            if key not in needed:
                continue  # decoded on the way to an earlier frame
            if bisect_left(times, key) - position > gap:
                container.seek(key, stream=stream)
                packets = stack.enter_context(packets_of(container, stream))
            waiting: set[int] = set()  # times of wanted frames that are still to be read
            started, before = False, -math.inf  # whether the key frame is out; time of the last frame that is
            expected: int | None = None  # position of the next frame, where each one has to confirm the order
            for packet in packets:
                if packet.is_keyframe and packet.pts in needed:
                    waiting |= needed.pop(packet.pts)
                    position = bisect_left(times, max(waiting))
                if not waiting:
                    continue
                if skipping:
                    # Skip frames that no other frame refers to. The setting holds for this packet alone,
                    # because the decoder has no threads that work on several.
                    unneeded = packet.pts not in waiting and expected is None
                    context.skip_frame = "NONREF" if unneeded else "DEFAULT"
                frames = context.decode(packet)
                increasing = packet.pts in video.increasing
                if packet.is_keyframe and not increasing and not context.has_b_frames:
                    decoded.notes["file.times"] = OUT_OF_ORDER
                    return False
                if expected is None and increasing and context.has_b_frames:
                    expected = bisect_left(times, packet.pts)
                    # The frame after a wanted one shows that no other frame belongs between them.
                    waiting.update(times[wanted[x] + 1] for x in waiting & wanted.keys() if x < times[-1])
                if expected is None:
                    waiting.discard(packet.pts)
                    if not waiting:
                        frames += context.decode(None)  # the decoder has all wanted packets: take the rest
                for frame in frames:
                    if frame.pts is None or frame.pts <= before:
                        decoded.notes["file.times"] = OUT_OF_ORDER
                        return False
                    before = time = frame.pts
                    if time >= key:
                        if not started and not (time == key and (intra_only or frame.key_frame)):
                            decoded.notes["file.key-frames"] = WRONG_KEYS
                            return False
                        started = True
                        if frame.is_corrupt:
                            return False
                    if expected is not None and time >= times[expected]:
                        if time > times[expected]:
                            decoded.notes["file.times"] = OUT_OF_ORDER
                            return False
                        waiting.discard(time)
                        expected += 1
                    if time in wanted and wanted[time] not in images:
                        decoded.add(wanted[time], frame, size, video.path)
                if not waiting:
                    context.flush_buffers()  # for the next key frame
                    break
            else:
                return False  # the key frame, or the frame after a wanted one, is not there
    return len(images) == len(positions)


def _decode_all(video: Video, positions: set[int], decoded: _Decoded) -> None:
    """Decode from the start. This is slow, and it defines which frame is which."""
    if not video.has_timestamps:
        _decode_sequence(video, positions, decoded, by_time=False)
    elif not _decode_sequence(video, positions, decoded, by_time=True):
        decoded.notes["file.times"] = OUT_OF_ORDER
        decoded.images.clear()
        count = _decode_sequence(video, positions, decoded, by_time=False, to_end=True)
        if count != len(video.times):
            raise DataError(f"{video.path}: damaged: {len(video.times)} frames, {count} could be decoded")


def _decode_sequence(
    video: Video, positions: set[int], decoded: _Decoded, *, by_time: bool, to_end: bool = False
) -> int:
    """Decode from the start until all wanted frames are there.

    Args:
        by_time: the time of a frame tells which one it is; else its number.
        to_end: decode all frames.

    Returns:
        Number of decoded frames; 0 if `by_time` and their times do not increase.
    """
    times, count, number = video.times, len(video.times), -1
    wanted = {times[i]: i for i in positions}
    before, consecutive = -math.inf, True
    corrupt: int | None = None  # number of a damaged frame that the following ones refer to
    with (
        open_stream(video.path, probe=True) as (container, stream),
        packets_of(container, stream) as packets,
    ):
        size = video.size or (stream.width, stream.height)
        for number, frame in enumerate(usable_frames(packets, stream)):
            position: int | None = number
            if by_time:
                if frame.pts is None or frame.pts <= before:
                    return 0
                before, position = frame.pts, wanted.get(frame.pts)
                consecutive = consecutive and number < count and frame.pts == times[number]
            if frame.is_corrupt:
                corrupt = number
            elif frame.key_frame:
                corrupt = None
            if position in positions and position not in decoded.images:
                if corrupt is not None:
                    raise DataError(f"{video.path}: damaged: frame {corrupt} of {count} is corrupt")
                decoded.add(position, frame, size, video.path)
            # After a gap, a frame that is out of order may still follow.
            if len(decoded.images) == len(positions) and consecutive and not to_end:
                break
    return number + 1
