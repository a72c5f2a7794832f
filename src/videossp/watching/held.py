"""`Held`: a decoded frame that windows may need; it is converted only if one does."""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import ref

import numpy as np
import torch
from torch import Tensor

from videossp.data.crop import to_clip
from videossp.data.sampling import ClipFormat
from videossp.data.video.decode import scaled
from videossp.data.video.orientation import upright

if TYPE_CHECKING:
    import av

RAW_LIMIT = 2**26  # bytes of frames that are held as decoded: those of two seconds at 720p


class Preparer:
    """Turns decoded frames into those of a clip, with the arithmetic of `read_views`.

    Frames of another size than the first one are scaled to that size.

    Args:
        clip_format: size of a clip.
        name: of the source, for errors.
    """

    def __init__(self, clip_format: ClipFormat, name: str) -> None:
        self.clip_format, self.name = clip_format, name
        self.size: tuple[int, int] | None = None  # (height, width) of the first frame, upright
        self.prepared = 0  # frames so far

    def begin(self, frame: "av.VideoFrame") -> None:
        """Start with the first frame of a source, which gives the size."""
        self.size = upright(frame, self.name).shape[:2]

    def __call__(self, frame: "av.VideoFrame") -> Tensor:
        """(3, height, width) uint8.

        Raises:
            DataError: the frame is larger than `max_pixels`.
        """
        pixels = upright(frame, self.name)
        if self.size is None:
            self.size = pixels.shape[:2]
        self.prepared += 1
        pixels = scaled(pixels, *self.size)
        return to_clip(np.ascontiguousarray(pixels)[None], self.clip_format, raw=True)[:, 0]


class Held:
    """A frame at its time.

    Attributes:
        time: seconds from the first frame of its session.
        arrival: reading of the clock when it was decoded.
        session: number of the unbroken part of a source that it belongs to.
        follows_gap: whether frames of its session before it were dropped.
    """

    def __init__(
        self, frame: "av.VideoFrame", time: float, prepare: Preparer, arrival: float = 0.0, session: int = 0
    ) -> None:
        self.time, self.arrival, self.session = time, arrival, session
        self.follows_gap = False
        self._frame: av.VideoFrame | None = frame
        self._prepare = prepare
        self._pixels: Tensor | None = None

    @property
    def raw_bytes(self) -> int:
        """Memory of the frame as decoded; 0 if it has been prepared."""
        frame = self._frame
        return 0 if frame is None else sum(x.buffer_size for x in frame.planes)

    def pixels(self) -> Tensor:
        """(3, height, width) uint8, converted once. Two threads may ask at the same time."""
        frame, pixels = self._frame, self._pixels
        if pixels is None:
            assert frame is not None  # it is given up only after the pixels are there
            pixels = self._pixels = self._prepare(frame)
            self._frame = None
        return pixels


class RawBudget:
    """Limits the memory of frames that are held as decoded: the oldest are prepared, needed or not.

    Args:
        limit: in bytes.
    """

    def __init__(self, limit: int = RAW_LIMIT) -> None:
        self.limit, self.held = limit, 0
        self._raw: deque[tuple[ref[Held], int]] = deque()  # windows decide how long a frame lives

    def add(self, frame: Held) -> None:
        """Count a frame, and prepare the oldest ones if there are too many."""
        size = frame.raw_bytes
        self._raw.append((ref(frame), size))
        self.held += size
        while self.held > self.limit:
            place, size = self._raw.popleft()
            if oldest := place():
                oldest.pixels()
            self.held -= size


def clip_of(frames: Sequence[Held]) -> Tensor:
    """(1, 3, frames, height, width) uint8 of the frames of a clip."""
    return torch.stack([x.pixels() for x in frames], 1)[None]
