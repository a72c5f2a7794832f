"""`LiveReader`: a thread that reads a live source and keeps the newest frames only."""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import closing

from videossp.errors import DataError
from videossp.watching.held import Held
from videossp.watching.source import Connection, Source, connect
from videossp.watching.stream_frames import Clock, StreamFrames

BACK_OFF = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds between tries to connect again; then always the last


class Newest:
    """The newest frames that nobody has taken yet. The frames of a stretch of time fit in; older ones go.

    Args:
        seconds: length of this stretch.

    Attributes:
        received, dropped: frames so far.
        ended: whether no more frames will come.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.received = self.dropped = 0
        self.ended = False
        self._frames: deque[Held] = deque()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, frame: Held) -> None:
        """Add the next frame, and drop those that are too old beside it."""
        with self._changed:
            self.received += 1
            self._frames.append(frame)
            while self._is_old(self._frames[0], frame):
                self._frames.popleft()
                self.dropped += 1
                self._frames[0].follows_gap = True
            self._changed.notify_all()

    def _is_old(self, frame: Held, newest: Held) -> bool:
        late = newest.time - frame.time if newest.session == frame.session else 0.0
        return max(late, newest.arrival - frame.arrival) > self.seconds

    def end(self) -> None:
        """Say that no more frames will come."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def take(self, timeout: float) -> list[Held]:
        """All frames that are there; waits for one, but not longer than `timeout` seconds."""
        with self._changed:
            if not self._frames and not self.ended:
                self._changed.wait(timeout)
            taken = [*self._frames]
            self._frames.clear()
            return taken


class LiveReader:
    """Reads a live source in a thread, and connects again when the source is lost.

    Args:
        source: what to read.
        first: its connection, which is open already.
        frames: give the frames of a connection.
        newest: takes the frames.
        reconnect: seconds without a connection after which it gives up; 0: it never connects again.
        report: called with a line when the source is lost or found again.
        clock: seconds of a steady clock.

    Attributes:
        problem: why it has given up; None: the stream ended, and `reconnect` is 0.
        reconnected: connections after the first one.
    """

    def __init__(
        self,
        source: Source,
        first: Connection,
        frames: StreamFrames,
        newest: Newest,
        reconnect: float,
        report: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self.source, self.frames, self.newest = source, frames, newest
        self.reconnect, self.report, self.clock = reconnect, report, clock
        self.problem: str | None = None
        self.reconnected = 0
        self._seen, self._tries = clock(), 0  # when the last frame came, and tries to connect since then
        self._lost = 0.0  # when the loss was noticed: a stream that stalls counts as lost after a time-out
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(first,), name="videossp live source", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread; it may need a moment to notice."""
        self._stopped.set()
        self._thread.join(1.0)

    def _run(self, connection: Connection | None) -> None:
        try:
            while connection is not None:
                self._read(connection)
                connection = None if self._stopped.is_set() else self._again()
        except Exception as error:  # such as a frame above the limit
            self.problem = str(error).removeprefix(f"{self.source.shown}: ")
        finally:
            self.newest.end()

    def _read(self, connection: Connection) -> None:
        with closing(self.frames.of(connection)) as frames:
            for frame in frames:
                self.newest.add(frame)
                self._seen, self._tries = frame.arrival, 0
                if self._stopped.is_set():
                    return

    def _again(self) -> Connection | None:
        """A new connection, or None if there is none in time."""
        why = self.frames.problem or "the stream ended"
        if self.reconnect <= 0:
            self.problem = self.frames.problem
            return None
        if not self._tries:
            self._lost = self.clock()
            self.report(f"{self.source.shown}: lost ({why}); connecting again")
        while True:
            pause = BACK_OFF[min(self._tries, len(BACK_OFF) - 1)]
            rest = self._lost + self.reconnect - self.clock()
            if rest <= 0 or self._stopped.wait(min(pause, rest)):
                self.problem = f"lost, and not back within {self.reconnect:g} s ({why})"
                return None
            self._tries += 1
            try:
                connection = connect(self.source)
            except DataError as error:
                why = str(error)
                continue
            self.reconnected += 1
            self.report(f"{self.source.shown}: connected again after {self.clock() - self._seen:.0f} s")
            return connection
