"""`watch`: the segments of a long recording or of a live stream, one after the other while it is read."""

import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from videossp.data.video import Video, read_video
from videossp.errors import DataError, TruncatedError
from videossp.inference.passes import Passes, finite, scoring
from videossp.watching.ahead import ahead
from videossp.watching.counts import Counts
from videossp.watching.file_windows import FileWindows
from videossp.watching.grid import Grid
from videossp.watching.held import Held, Preparer
from videossp.watching.live import LiveReader, Newest
from videossp.watching.segment import Segment
from videossp.watching.segmenter import NOTHING, Piece, Segmenter
from videossp.watching.source import Connection, Source, connect
from videossp.watching.stream_frames import Clock, StreamFrames
from videossp.watching.stream_windows import StreamWindows
from videossp.watching.window import ClipAt, Recorded, Window

if TYPE_CHECKING:
    from videossp.classifier import Classifier

AHEAD = 16  # windows that wait for the classifier; their frames are shared
STATUS = 60.0  # seconds between two lines about the progress
RECONNECT = 300.0  # seconds
Name = str | os.PathLike[str]


def watch(
    classifier: "Classifier",
    source: Name,
    *,
    windows: Sequence[float] = (),
    hop: float | None = None,
    nothing: float = NOTHING,
    join: bool = True,
    live: bool | None = None,
    reconnect: float = RECONNECT,
    report: Callable[[str], None] | None = None,
) -> Iterator[Segment]:
    """The segments of a recording or a stream; each is yielded as soon as it is certain.

    Windows slide over the recording, and each is classified like a video of its own: the probabilities are
    those that `predict` gives for this part of a file with one segment and one crop, within 1e-6. The
    segments are the best cut of the recording into windows and stretches of nothing. docs/watch.md has the
    details.

    Args:
        classifier: computes on its device and in its precision.
        source: a file, a URL (rtsp, rtsps, http, https, udp, tcp), a camera (/dev/video0), a pipe, or "-" for
            stdin.
        windows: their lengths in seconds. Default: the mean duration of the training videos.
        hop: seconds from one window to the next. Default: a quarter of the shortest window.
        nothing: cost of a second without a class.
        join: join neighbouring windows of one class. A live source gives a segment out four of the longest
            windows after its start at the latest.
        live: whether to drop frames that there is no time for. Default: for a camera and a stream of the
            network, but not for a file on a web server.
        reconnect: seconds for which a lost live source is tried again.
        report: called with a line about the progress every minute, and when a live source is lost or back.

    Raises:
        ValueError: windows that do not fit, or no windows and an adapter that stores no duration.
        DataError: the source cannot be opened; or it is damaged or lost, after the segments of all that could
            be read.
        FloatingPointError: probabilities are not finite.
        OutOfMemoryError: the memory of a GPU is too small for one window.
    """
    yield from Watcher(
        classifier,
        source,
        windows=windows,
        hop=hop,
        nothing=nothing,
        join=join,
        live=live,
        reconnect=reconnect,
        report=report,
    )


class Watcher:
    """Iterates over the segments of a source, see `watch`; afterwards `counts` tells what was read.

    When `stopped` becomes true, the source ends there: the last segments are those of what was read.

    Attributes:
        grid: the windows.
        source: what is watched.
        counts: so far.
        live: whether it is a live source; known when the iteration has started.
        video: the source if it is a whole file; known when the iteration has started.
    """

    def __init__(
        self,
        classifier: "Classifier",
        source: Name,
        *,
        windows: Sequence[float] = (),
        hop: float | None = None,
        nothing: float = NOTHING,
        join: bool = True,
        live: bool | None = None,
        reconnect: float = RECONNECT,
        report: Callable[[str], None] | None = None,
        clock: Clock = time.monotonic,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        if not windows and classifier.video_seconds is None:
            raise ValueError(
                "the adapter does not store how long its training videos were; give the length of a window "
                "in seconds (--window)"
            )
        if not 0 <= reconnect < math.inf:
            raise ValueError(f"reconnect must be at least 0 seconds, got {reconnect}")
        self.grid = Grid.of(windows or [classifier.video_seconds or 0.0], hop)
        self.classifier, self.source = classifier, Source.of(source)
        self.live = live
        self.video: Video | None = None
        self.counts = Counts()
        self._nothing, self._join, self._reconnect = nothing, join, reconnect
        self._report, self._clock, self._stopped = report or (lambda line: None), clock, stopped
        self._told = clock()
        self._update: Callable[[], None] = lambda: None  # brings the counts up to date
        self._offset = 0.0  # of the session, in seconds from the first frame
        self._began: datetime | None = None  # the time of day at which the session of a live source began
        self._segmenter = self._new_segmenter()
        self._point = 0  # of the session
        self._keeps_up = False  # whether the last windows of a live source took less time than they span
        self._limit = math.inf  # of the session: its end, if that is known

    def __iter__(self) -> Generator[Segment, None, None]:
        # The clips of a batch must not change each other's results.
        passes = scoring(self.classifier, 1 if self.classifier.tuner.mixes_clips else None)
        if self.source.kind == "file" and self.live is not True:
            try:
                video = read_video(self.source.path)
            except TruncatedError as error:
                if connection := self._connection():
                    yield from self._once(connection, passes)
                raise error
            self.video = video
            yield from self.recorded(FileWindows(video, self.grid, self.classifier.clip_format), passes)
            return
        if self.source.kind in ("camera", "network") and self.live is not False:
            clip = self.classifier.clip_format
            passes(
                torch.zeros(1, 3, clip.frames, *clip.size, dtype=torch.uint8)
            )  # compiles before frames come
        connection = self._connection()
        if connection is None:
            return
        self.live = connection.live if self.live is None else self.live
        if self.live:
            yield from self._live(connection, passes)
        else:
            yield from self._once(connection, passes)

    def _connection(self) -> Connection | None:
        """Open the source, in a thread, as a source that gives no data cannot be stopped; None: stopped."""
        with closing(ahead((connect(x) for x in [self.source]), 1, self._stopped)) as opened:
            return next(opened, None)

    def _new_segmenter(self) -> Segmenter:
        patience = 2 * self.grid.longest if self.live else None
        return Segmenter(self.grid, self._nothing, join=self._join, patience=patience)

    def _segments(self, pieces: Iterable[Piece]) -> list[Segment]:
        """Pieces of the current session as segments of the recording."""
        found = []
        for piece in pieces:
            start, end = self.grid.seconds(piece.first), min(self.grid.seconds(piece.stop), self._limit)
            times = [self._began and self._began + timedelta(seconds=x) for x in (start, end)]
            label = self.classifier.classes[piece.label]
            found.append(Segment(self._offset + start, self._offset + end, label, piece.probability, *times))
        return found

    def _tell(self) -> None:
        """Report the counts every minute."""
        self._update()
        if self._clock() - self._told >= STATUS:
            self._told = self._clock()
            self._report(self.counts.line(bool(self.live)))

    def _classified(self, windows: Iterable[ClipAt], passes: Passes) -> Iterator[Segment]:
        """The segments that are certain after each window, several of which are classified together."""
        items = ((x, x.clip()) for x in windows)
        for window, scores in passes.by_item(((x.first, x.stop), clip) for x, clip in items):
            assert scores is not None
            yield from self._add(*window, scores)
            self._tell()

    def _add(self, first: int, stop: int, scores: Tensor) -> list[Segment]:
        self.counts.windows += 1
        self._point = max(self._point, stop)
        self.counts.seconds = self._offset + min(self.grid.seconds(stop), self._limit)
        return self._segments(self._segmenter.add(first, stop, finite(scores)[0].tolist()))

    def _end_session(self, seconds: float) -> list[Segment]:
        """The last segments of a session of this duration; a new one may follow."""
        self._limit = seconds
        self.counts.seconds = self._offset + seconds
        found = self._segments(self._segmenter.finish(max(self._point, self.grid.points(seconds))))
        self._segmenter, self._point, self._limit = self._new_segmenter(), 0, math.inf
        return found

    def recorded(self, windows: Recorded, passes: Passes) -> Iterator[Segment]:
        """The segments of a recording.

        Args:
            windows: of the recording.
            passes: classify them.

        Raises:
            DataError: the recording is damaged, after the segments of all that could be read.
        """
        self._limit, self._update = windows.seconds, lambda: self._count(windows)
        decoded = ahead(windows, AHEAD, self._stopped)
        try:
            yield from self._classified(decoded, passes)
        finally:
            decoded.close()
            self._update()
        read = self.grid.seconds(self._point) if self._stopped() else math.inf
        yield from self._end_session(min(read, windows.seconds))
        if windows.damage:
            raise DataError(
                f"{self.source.shown}: damaged ({windows.damage}): {windows.lost} windows left out"
            )

    def _count(self, windows: Recorded) -> None:
        self.counts.frames, self.counts.prepared = windows.decoded, windows.prepared
        self.counts.left_out = windows.lost

    def _once(self, connection: Connection, passes: Passes) -> Iterator[Segment]:
        """The segments of a source that waits for its reader."""
        prepare = Preparer(self.classifier.clip_format, self.source.shown)
        frames = StreamFrames(prepare, self._clock)
        most = max(AHEAD, 2 * self.classifier.clip_format.frames)
        decoded = ahead(frames.of(connection), most, self._stopped)
        try:
            for _, session in groupby(decoded, key=lambda x: x.session):
                windows = StreamWindows(self.grid, self.classifier.clip_format)
                yield from self._classified(self._windows(windows, session), passes)
                yield from self._end_session(windows.seconds)
                self._offset += windows.seconds
        finally:
            decoded.close()
            self.counts.prepared, self.counts.damaged = prepare.prepared, frames.damaged
        if frames.problem or frames.damaged:
            problem = frames.problem or f"{frames.damaged} packets or frames cannot be decoded"
            raise DataError(f"{self.source.shown}: damaged or cut off: {problem}")
        if not self.counts.frames and not self._stopped():
            raise DataError(f"{self.source.shown}: no frame could be decoded")

    def _windows(self, windows: StreamWindows, frames: Iterable[Held]) -> Iterator[Window]:
        for frame in frames:
            self.counts.frames += 1
            yield from windows.add(frame)
        self._limit = windows.seconds
        yield from windows.finish()

    def _live(self, connection: Connection, passes: Passes) -> Iterator[Segment]:
        prepare = Preparer(self.classifier.clip_format, self.source.shown)
        frames = StreamFrames(prepare, self._clock)
        newest = Newest(self.grid.seconds(self.grid.longest + 2))
        # A file would start again, and stdin is read to its end.
        reconnect = self._reconnect if self.source.kind in ("camera", "network") else 0.0
        reader = LiveReader(self.source, connection, frames, newest, reconnect, self._report, self._clock)
        self._update = lambda: self._count_live(prepare, frames, newest, reader)
        try:
            yield from self.follow(newest, passes)
        finally:
            reader.stop()
            self._update()
        if reader.problem:
            raise DataError(f"{self.source.shown}: {reader.problem}")
        if not self.counts.frames and not self._stopped():
            raise DataError(f"{self.source.shown}: no frame could be decoded")

    def _count_live(
        self, prepare: Preparer, frames: StreamFrames, newest: Newest, reader: LiveReader
    ) -> None:
        counts = self.counts
        counts.frames, counts.dropped, counts.prepared = newest.received, newest.dropped, prepare.prepared
        counts.damaged, counts.reconnected = frames.damaged, reader.reconnected

    def follow(self, newest: Newest, passes: Passes) -> Iterator[Segment]:
        """The segments of a live source. Where windows have piled up, only the newest ones are classified.

        Args:
            newest: gives the frames.
            passes: classify windows.
        """
        self.live = True
        self._segmenter = self._new_segmenter()
        windows: StreamWindows | None = None
        session, start, offset = -1, 0.0, 0.0
        while True:
            taken = newest.take(1.0)
            due: list[Window] = []
            for number, group in groupby(taken, key=lambda x: x.session):
                members = [*group]
                if windows is None or number != session:
                    if windows is not None:
                        self._limit = windows.seconds
                        yield from self._newest_only([*due, *windows.finish()], passes)
                        yield from self._end_session(windows.seconds)
                        offset, due = self._offset + windows.seconds, []
                    if session < 0:
                        start = members[0].arrival
                    session, windows = number, StreamWindows(self.grid, self.classifier.clip_format)
                    # A server may send the first seconds at once: sessions do not overlap all the same.
                    self._offset = max(offset, members[0].arrival - members[0].time - start)
                    age = self._clock() - members[0].arrival + members[0].time
                    self._began = datetime.now(UTC) - timedelta(seconds=age)
                for frame in members:
                    due += windows.add(frame)
            ended = self._stopped() or (newest.ended and not len(newest))
            if ended and windows is not None:
                self._limit = windows.seconds
                due += windows.finish()
            yield from self._newest_only(due, passes)
            if windows is not None:
                yield from self._segments(self._segmenter.advance(windows.point))
                self._point = max(self._point, windows.point)
            self._tell()
            if ended:
                break
        if windows is not None:
            yield from self._end_session(windows.seconds)

    def _newest_only(self, due: list[Window], passes: Passes) -> list[Segment]:
        """Classify windows that are due: all, or if the classifier is too slow the newest ones."""
        points = sorted({x.stop for x in due})
        points = points[-self.grid.longest if self._keeps_up else -1 :]
        chosen = [x for x in due if x.stop in points]
        self.counts.left_out += len(due) - len(chosen)
        found: list[Segment] = []
        if chosen:
            started = self._clock()
            scores = passes(torch.cat([x.clip() for x in chosen])).cpu()
            self._keeps_up = self._clock() - started <= len(points) * self.grid.hop_seconds
            self.counts.lag = max(self.counts.lag, *(self._clock() - x.arrival for x in chosen))
            for window, row in zip(chosen, scores, strict=True):
                found += self._add(window.first, window.stop, row[None])
        return found
