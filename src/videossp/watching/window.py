"""`Window`: a stretch of a recording that is classified like a video of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

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


class ClipAt(Protocol):
    """A window as the classifier takes it: grid points and a clip."""

    @property
    def first(self) -> int: ...
    @property
    def stop(self) -> int: ...
    def clip(self) -> Tensor:
        """(1, 3, frames, height, width) uint8."""


class Recorded(Protocol):
    """The windows of a recording of known duration, in the order of their ends; see `FileWindows`."""

    @property
    def seconds(self) -> float: ...
    @property
    def decoded(self) -> int: ...
    @property
    def prepared(self) -> int: ...
    @property
    def lost(self) -> int: ...
    @property
    def damage(self) -> str | None: ...
    def __iter__(self) -> Iterator[ClipAt]: ...
