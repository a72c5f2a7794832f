"""`JobWindows`: the windows of an uploaded recording, decoded in a process that may hang or die."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from videossp.data.sampling import ClipFormat
from videossp.data.video import Video
from videossp.errors import DataError
from videossp.serving.uploaded_video import Refused, checked, without_path
from videossp.system.worker_pool import cause_of_death, prepare_worker, sigint_blocked
from videossp.watching.grid import Grid

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

TRIES = 3  # to start a process
POLL = 0.2  # seconds between two looks at `stopped`
MOST_WINDOWS = 500_000  # of a recording


@dataclass(frozen=True)
class Recording:
    """How the child process reads a recording; picklable.

    Attributes:
        path: of the uploaded file.
        grid, clip_format: of the windows.
        max_pixels, max_seconds: limits of the video.
    """

    path: str
    grid: Grid
    clip_format: ClipFormat
    max_pixels: int
    max_seconds: float


@dataclass(frozen=True)
class Sent:
    """A window, and how many frames were decoded and prepared by then."""

    first: int
    stop: int
    pixels: "np.ndarray"
    decoded: int
    prepared: int

    def clip(self) -> "Tensor":
        """(1, 3, frames, height, width) uint8."""
        import torch

        return torch.from_numpy(self.pixels)


@dataclass(frozen=True)
class End:
    """The end of the windows: frames and windows in all, and the damage."""

    decoded: int
    prepared: int
    lost: int
    damage: str | None


class JobWindows:
    """The windows of a recording, as `FileWindows` gives them, from a child process. Close it in any case.

    Args:
        recording: how it is read.
        timeout: seconds for the next window.
        stopped: whether nobody needs them any more.

    Attributes:
        video: the recording, without its path.
        seconds: duration.
        decoded, prepared: frames so far.
        lost, damage: see `FileWindows`; known at the end.

    Raises:
        DataError: the recording cannot be read; the message has no path.
    """

    def __init__(
        self, recording: Recording, timeout: float, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self.timeout, self.stopped = timeout, stopped
        self.decoded = self.prepared = self.lost = 0
        self.damage: str | None = None
        self._from, self._process = started(recording)
        try:
            first = self._receive()
            if isinstance(first, Refused):
                raise DataError(first.reason)
            self.video: Video = first
        except BaseException:
            self.close()
            raise
        self.seconds = self.video.seconds or 0.0
        count = recording.grid.points(self.seconds) * len(recording.grid.lengths)
        if count > MOST_WINDOWS:
            self.close()
            raise DataError(f"{count:,} windows; at most {MOST_WINDOWS:,} are computed: choose a longer hop")

    def __iter__(self) -> Iterator[Sent]:
        while True:
            item = self._receive()
            self.decoded, self.prepared = item.decoded, item.prepared
            if isinstance(item, End):
                self.lost, self.damage = item.lost, item.damage
                return
            yield item

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._from.close()

    def _receive(self) -> Any:
        deadline = time.monotonic() + self.timeout
        while not self._from.poll(POLL):
            if self.stopped():
                raise DataError("the job was ended")
            if time.monotonic() > deadline:
                self.close()
                raise DataError(f"the next part of the video could not be decoded within {self.timeout:g} s")
        try:
            item = self._from.recv()
        except (EOFError, OSError):
            self._process.join(5)
            cause = cause_of_death(self._process.exitcode or 0)
            raise DataError(f"the process that decoded the video ended ({cause})") from None
        if isinstance(item, DataError):
            raise item
        return item


def started(recording: Recording) -> tuple[Connection, BaseProcess]:
    """A child process that reads a recording, and the connection from it.

    Raises:
        DataError: it cannot be started.
    """
    context: Any = get_context("forkserver") if "forkserver" in _methods() else get_context("spawn")
    for _ in range(TRIES):
        receiver, to = context.Pipe(duplex=False)
        process = context.Process(target=send_windows, args=(recording, to), daemon=True)
        with to:
            try:
                with sigint_blocked():
                    process.start()
                return receiver, process
            except (EOFError, OSError):  # the process from which it is forked was killed a moment ago
                receiver.close()
                time.sleep(0.2)
    raise DataError("the process that decodes the video does not start; send the video again")


def _methods() -> list[str]:
    from multiprocessing import get_all_start_methods

    return get_all_start_methods()


def send_windows(recording: Recording, to: Connection) -> None:
    """Read a recording in a child process, and send a `Video`, `Sent` windows and the `End`."""
    import torch

    from videossp.watching.file_windows import FileWindows

    prepare_worker()
    torch.set_num_threads(1)
    path = recording.path
    try:
        video = checked(path, recording.max_pixels, recording.max_seconds)
        to.send(video)
        if isinstance(video, Refused):
            return
        windows = FileWindows(video, recording.grid, recording.clip_format)
        for x in windows:
            to.send(Sent(x.first, x.stop, x.clip().numpy(), windows.decoded, windows.prepared))
        to.send(End(windows.decoded, windows.prepared, windows.lost, windows.damage))
    except (DataError, MemoryError) as error:
        to.send(DataError(without_path(error, path) or "the video needs too much memory"))
    except BrokenPipeError:
        pass  # the job was cancelled
