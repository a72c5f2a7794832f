"""`Window`: a stretch of a recording that is classified like a video of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from videossp.watching.held import Held, clip_of


@dataclass(frozen=True)
class Window:
    """A window and the frames of its clip.

    Attributes:
        first, stop: the grid points at which it starts and ends.
        frames: those of the clip, in order; a frame may be there more than once.
    """

    first: int
    stop: int
    frames: Sequence[Held]

    def clip(self) -> Tensor:
        """(1, 3, frames, height, width) uint8; converts the frames that no other window has converted."""
        return clip_of(self.frames)

    @property
    def arrival(self) -> float:
        """Reading of the clock when its newest frame was decoded."""
        return max(x.arrival for x in self.frames)
