"""Windows over a file: its index tells which frames they take, so that only these are kept."""

import math
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from av.error import FFmpegError

from videossp.data.sampling import ClipFormat, eval_indices
from videossp.data.video import Video
from videossp.data.video.container import open_stream, packets_of, reason_of
from videossp.data.video.part import part_of
from videossp.data.video.sequential import usable_frames
from videossp.errors import DataError
from videossp.watching.grid import Grid
from videossp.watching.held import Held, Preparer
from videossp.watching.window import Window

if TYPE_CHECKING:
    import av


class FileWindows:
    """The windows over a video file, in the order of their ends, decoded once from start to end.

    Each has the frames that `read_views` takes of the part from its start to its end. Windows without a frame
    do not exist, and those of a damaged frame are left out.

    Args:
        video: the file, of `read_video`.
        grid: the windows.
        clip_format: frames and size of a clip.

    Attributes:
        seconds: duration of the video.
        decoded: frames so far.
        held: prepared frames that are kept now.
        lost: windows that were left out because of damage.
        damage: what the decoder reports, or None.
    """

    def __init__(self, video: Video, grid: Grid, clip_format: ClipFormat) -> None:
        if video.unit is None or video.seconds is None:
            raise DataError(f"{video.path}: frames without a rate, so it has no times; give a video file")
        self.video, self.grid, self.clip_format = video, grid, clip_format
        self.seconds, self._unit = video.seconds, video.unit
        self.prepare = Preparer(clip_format, str(video.path))
        self.decoded = self.lost = 0
        self.damage: str | None = None
        self._ring: dict[int, Held] = {}

    @property
    def prepared(self) -> int:
        """Frames that were converted so far."""
        return self.prepare.prepared

    @property
    def held(self) -> int:
        """Frames that are kept now."""
        return len(self._ring)

    def time(self, position: int) -> float:
        """Seconds from the first frame of the file to this one."""
        return float((self.video.times[position] - self.video.times[0]) * self._unit)

    def plan(self) -> Iterator[tuple[int, int, list[int]]]:
        """(first, stop, positions of its frames in `video.times`) of each window, by the ends."""
        for stop in range(self.grid.lengths[0], self.grid.last(self.seconds) + 1):
            for length in (x for x in self.grid.lengths if x <= stop):
                start, end = self.grid.seconds(stop - length), self.grid.seconds(stop)
                try:
                    part = part_of(self.video, start, end)
                except DataError:
                    continue  # no frame: a long pause between two frames of a variable rate
                indices = eval_indices(len(part), self.clip_format)
                yield stop - length, stop, [part.first + i for i in indices]

    def __iter__(self) -> Iterator[Window]:
        plan, waiting, uses = self.plan(), deque[tuple[int, int, list[int]]](), Counter[int]()
        reach = self.grid.seconds(self.grid.longest)
        upcoming = next(plan, None)

        def due(before: float) -> Iterator[Window]:
            """The windows whose frames lie before a position."""
            while waiting and max(waiting[0][2]) < before:
                first, stop, positions = waiting.popleft()
                if all(x in self._ring for x in positions):
                    yield Window(first, stop, [self._ring[x] for x in positions])
                else:
                    self.lost += 1
                uses.subtract(positions)
                for x in {*positions}:
                    if not uses[x]:
                        del uses[x]
                        self._ring.pop(x, None)

        for position, frame in self._frames():
            self.decoded += 1
            time = self.time(position)
            # The windows that start before this frame must be known; later ones cannot need it.
            while upcoming and self.grid.seconds(upcoming[1]) <= time + reach:
                waiting.append(upcoming)
                uses.update(upcoming[2])
                upcoming = next(plan, None)
            yield from due(position)
            if self.prepare.size is None:
                self.prepare.begin(frame)
            if position in uses:
                self._ring[position] = Held(frame, time, self.prepare)
                self._ring[position].pixels()
        while upcoming:
            waiting.append(upcoming)
            uses.update(upcoming[2])
            upcoming = next(plan, None)
        yield from due(math.inf)

    def _frames(self) -> "Iterator[tuple[int, av.VideoFrame]]":
        """(Position in `video.times`, frame) of the frames that are not damaged."""
        try:
            with (
                open_stream(self.video.path, probe=True) as (container, stream),
                packets_of(container, stream) as packets,
            ):
                if self.video.has_timestamps:
                    yield from self._by_time(packets)
                else:
                    yield from enumerate(usable_frames(packets, stream))
        except FFmpegError as error:  # of the container, or of a file whose frames can only be counted
            self._note(f"cannot be decoded: {reason_of(error)}")

    def _by_time(
        self, packets: "Iterable[av.Packet[av.VideoStream]]"
    ) -> "Iterator[tuple[int, av.VideoFrame]]":
        """The frames whose times are in the index; after damage, those from the next key frame on."""
        times, count, intact, before = self.video.times, len(self.video.times), True, -math.inf
        started = False
        for packet in packets:
            started = started or packet.is_keyframe
            try:
                frames = packet.decode()
            except FFmpegError as error:
                if started:  # a recording may begin between two key frames
                    intact = False
                    self._note(f"cannot be decoded: {reason_of(error)}")
                continue
            for frame in frames:
                if frame.is_corrupt:
                    intact = False
                    self._note("a frame is corrupt")
                elif frame.key_frame:
                    intact = True
                if intact and (frame.pts is None or frame.pts <= before):
                    intact = False
                    self._note("its frame times are not in order")
                if not intact or frame.pts is None:
                    continue
                before, position = frame.pts, bisect_left(times, frame.pts)
                if position < count and times[position] == frame.pts:
                    yield position, frame

    def _note(self, text: str) -> None:
        self.damage = self.damage or text
