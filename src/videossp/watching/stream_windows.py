"""Windows over frames that can be read only once: which ones a window takes is known at its end."""

from collections import deque

from videossp.data.sampling import ClipFormat, eval_indices
from videossp.watching.grid import Grid
from videossp.watching.held import Held
from videossp.watching.window import Window


class StreamWindows:
    """The windows over a session, each given out when the first frame after it is there.

    No window has a gap, where a live reader has dropped frames.

    Args:
        grid: the windows.
        clip_format: frames of a clip.

    Attributes:
        point: the last grid point whose windows were given out.
    """

    def __init__(self, grid: Grid, clip_format: ClipFormat) -> None:
        self.grid, self.clip_format, self.point = grid, clip_format, 0
        self._frames: deque[Held] = deque()
        self._count, self._last = 0, 0.0
        self._whole = 0.0  # no frame is missing from this time on

    @property
    def held(self) -> int:
        """Frames that are kept now: those of the longest window and of one hop."""
        return len(self._frames)

    @property
    def seconds(self) -> float:
        """Duration so far. The last frame lasts as long as the others do on average."""
        return self._last * self._count / (self._count - 1) if self._count > 1 else self.grid.hop_seconds

    def add(self, frame: Held) -> list[Window]:
        """Add the next frame; returns the windows that end before it or at its time, by their ends."""
        windows = []
        if frame.follows_gap:
            while self.grid.seconds(self.point + 1) <= self._last:
                windows += self._ending(self.point + 1)
            self._frames.clear()
            self._whole = frame.time
        while self.grid.seconds(self.point + 1) <= frame.time:
            windows += self._ending(self.point + 1)
        self._frames.append(frame)
        self._count, self._last = self._count + 1, frame.time
        return windows

    def finish(self) -> list[Window]:
        """The windows that end at the end of the session, or less than a hop after it."""
        windows = []
        while self._count and self.point < self.grid.last(self.seconds):
            windows += self._ending(self.point + 1)
        return windows

    def _ending(self, stop: int) -> list[Window]:
        """The windows that end at a grid point; afterwards, frames that no later window has are gone."""
        self.point, windows, end = stop, [], self.grid.seconds(stop)
        for length in (x for x in self.grid.lengths if x <= stop):
            start = self.grid.seconds(stop - length)
            frames = [x for x in self._frames if start <= x.time < end]
            if frames and start >= self._whole:
                chosen = [frames[i] for i in eval_indices(len(frames), self.clip_format)]
                windows.append(Window(stop - length, stop, chosen))
        while self._frames and self._frames[0].time < self.grid.seconds(stop + 1 - self.grid.longest):
            self._frames.popleft()
        return windows
