"""The frames of a connection with their times, in unbroken sessions."""

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

from av.error import FFmpegError

from videossp.data.video.container import packets_of
from videossp.data.video.sequential import usable_frames
from videossp.watching.held import Held, Preparer, RawBudget
from videossp.watching.source import Connection, why_lost

if TYPE_CHECKING:
    import av

REORDERED = 1.0  # seconds: a frame that is late by less is damaged; by more, the times start again
JUMP = 10.0  # seconds without a frame after which a live stream counts as interrupted
Clock = Callable[[], float]


class StreamFrames:
    """Frames of a source that can be read only once. A new session starts where their times break off.

    Args:
        prepare: for the frames.
        clock: seconds of a steady clock.

    Attributes:
        session: number of the current session.
        damaged: packets that could not be decoded, and frames that are corrupt or out of order.
        problem: why reading ended, or None at a regular end.
    """

    def __init__(self, prepare: Preparer, clock: Clock) -> None:
        self.prepare, self.clock = prepare, clock
        self.session, self.damaged = -1, 0
        self.problem: str | None = None
        self._budget = RawBudget()

    def of(self, connection: Connection) -> Generator[Held, None, None]:
        """The frames of a connection, as a session of its own, until it ends; `problem` tells why.

        The connection is closed at the end.
        """
        self.session, self.problem = self.session + 1, None
        stream = connection.stream
        origin: float | Fraction = 0.0
        last: float | Fraction = -math.inf
        rate = stream.average_rate or stream.guessed_rate
        step = 1 / rate if rate else Fraction(1, 25)  # for frames without any time, as of raw H.264
        count = 0
        with connection.container, packets_of(connection.container, stream) as packets:
            for frame in self._decoded(packets, stream):
                arrival = self.clock()
                time: float | Fraction  # exact, as a frame at a grid point must not count before it
                if connection.live and not connection.timed:
                    time = arrival
                elif frame.pts is not None and frame.time_base is not None:
                    time = frame.pts * frame.time_base
                elif connection.timed:
                    self.damaged += 1  # a frame without its time, as the first one of some RTSP servers
                    continue
                else:
                    time = count * step
                if frame.is_corrupt or last - REORDERED < time <= last:
                    self.damaged += 1
                    continue
                if count and (time <= last or (connection.live and time > last + JUMP)):
                    self.session, count = self.session + 1, 0
                if not count:
                    origin = time
                last, count = time, count + 1
                held = Held(frame, float(time - origin), self.prepare, arrival, self.session)
                self._budget.add(held)
                yield held

    def _decoded(
        self, packets: "Iterable[av.Packet[av.VideoStream]]", stream: "av.VideoStream"
    ) -> "Iterator[av.VideoFrame]":
        """The frames that can be decoded; packets that cannot be are counted."""

        def received() -> "Iterator[av.Packet[av.VideoStream]]":
            try:
                yield from packets
            except (FFmpegError, OSError) as error:
                self.problem = why_lost(error)

        rest, ended = received(), False
        while not ended:
            try:
                yield from usable_frames(rest, stream)
                ended = True
            except FFmpegError:
                self.damaged += 1
