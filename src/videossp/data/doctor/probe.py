"""`probe_all`: read every file of a data set in worker processes, each within a time limit."""

import hashlib
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, TimeoutError, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import parent_process, resource_tracker
from multiprocessing.context import SpawnContext
from multiprocessing.synchronize import RLock
from pathlib import Path
from typing import TypeVar

from pebble import ProcessExpired, ProcessPool

# Workers import this file, so nothing here may import torch, which takes seconds.
from videossp.data.datasets.sample import Sample
from videossp.data.sampling import ClipFormat, eval_indices
from videossp.data.video import max_pixels, read_video
from videossp.data.video.container import open_stream
from videossp.data.video.decode import read_frames_and_notes
from videossp.data.video.files import images_of
from videossp.data.video.images import read_image
from videossp.errors import DataError, NoVideoError, TruncatedError

AHEAD = 4096  # files submitted ahead of the oldest one, so that a slow file does not stop the others
MAX_FAILURES = 3  # worker pools in a row that break before they give a result
BLOCK = 1 << 20  # bytes hashed at once
CHECKS: dict[type[Exception], str] = {TruncatedError: "file.truncated", NoVideoError: "file.no-video"}
T = TypeVar("T")
# A part of a file: path, start, end, numbers of its frames.
Part = tuple[str, float | None, float | None, tuple[int, int] | None]
# The same, with whether to hash the content of the file before the frames.
Task = tuple[str, float | None, float | None, bool, tuple[int, int] | None]


@dataclass(frozen=True, slots=True)
class Probe:
    """Properties of a video, or the reason why it cannot be read.

    Attributes:
        name: name of the sample.
        check: id of the problem (file.unreadable, file.truncated, file.no-video), or None.
        message: the problem in one line, with the file's path.
        frames: number of frames in the sample's part of the file; None if unknown.
        seconds: duration of that part; None if unknown, or for a folder of frames.
        sha256: hash of the file, or of a folder's images in order; None if not computed.
        frozen: whether all decoded frames, at least two, have the same pixels.
        size: (height, width) in pixels: of a video from the header, before any rotation; of a folder, of its
            first image.
        notes: (id of a check, text) of facts of a file that can be read.
    """

    name: str
    check: str | None = None
    message: str = ""
    frames: int | None = None
    seconds: float | None = None
    sha256: str | None = None
    frozen: bool = False
    size: tuple[int, int] | None = None
    notes: tuple[tuple[str, str], ...] = ()


Job = Callable[..., Probe]


def probe_file(
    path: str,
    start: float | None,
    end: float | None,
    hashed: bool,
    selected: tuple[int, int] | None = None,
    *,
    frames: int,
    decode: bool,
) -> Probe:
    """Probe one part of one file; see `probe_all`. Problems of the file are returned, not raised."""
    probe, promised = Probe(path), selected and selected[1]
    try:
        if not os.path.isdir(path):
            read_video(path)  # the full file, because the part may not exist
        probe = replace(probe, sha256=content_hash(Path(path), promised) if hashed else None)
        video = read_video(path, start, end, frames=selected)
        seconds, size = video.seconds, size_of(Path(path), promised)
        notes = tuple(video.notes.items())
        probe = replace(probe, frames=len(video), seconds=seconds, size=size, notes=notes)
        if decode:
            images, found = read_frames_and_notes(video, lambda count: probed_indices(count, frames))
            frozen = len(images) > 1 and all((image == images[0]).all() for image in images)
            probe = replace(probe, frozen=frozen, notes=tuple(found.items()))
    except Exception as error:  # a damaged file can raise anything, and must not stop the others
        message = str(error) if isinstance(error, DataError) else f"{path}: {one_line(error)}"
        return replace(probe, check=CHECKS.get(type(error), "file.unreadable"), message=message)
    return probe


def probed_indices(count: int, frames: int) -> list[int]:
    """The frames that are decoded: first, last, those of a test clip, and borders between its parts."""
    borders = (i * count // frames for i in range(frames))
    return sorted({0, *borders, *eval_indices(count, ClipFormat(frames)), count - 1})


def size_of(path: Path, promised: int | None = None) -> tuple[int, int] | None:
    """(height, width) from the header of a video, or of the first image of a folder; None if unknown.

    The image is decoded, because its name may not tell its format.

    Args:
        promised: see `images_of`.
    """
    if path.is_dir():
        height, width, _ = read_image(images_of(path, promised)[0]).shape
        return height, width
    with open_stream(path) as (_, stream):
        size = stream.height, stream.width
    return size if all(size) else None


def content_hash(path: Path, promised: int | None = None) -> str:
    """SHA-256 of a file, or of the concatenated images of a folder; for `promised` see `images_of`."""
    digest = hashlib.sha256()
    for file in images_of(path, promised) if path.is_dir() else [path]:
        with file.open("rb") as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def probe_all(
    samples: Sequence[Sample],
    *,
    frames: int = 8,
    decode: bool = True,
    hashed: bool = True,
    timeout: float = 60.0,
    workers: int | None = None,
    progress: bool = False,
    job: Job = probe_file,
) -> Generator[Probe, None, None]:
    """Probe samples, in their order. The same part of a file is read once.

    Workers are spawned, because a fork would copy locks that the threads of this process hold. A script that
    calls this therefore needs `if __name__ == "__main__":`. To stop early, close the iterator.

    Args:
        frames: number of frames of a clip. With `decode`, the frames of a uniform clip, those at the borders
            of its parts, the first and the last frame are decoded.
        decode: if False, only packets are read. This finds truncated files, but no damage inside a file.
        hashed: also hash the content, once for all parts of a file.
        timeout: seconds per file. A file that takes longer, or at which a worker dies, is unreadable; the
            others are still read.
        workers: number of worker processes; None: one per core.
        progress: show a progress bar if stderr is a terminal.
        job: the function that a worker calls for each file.

    Raises:
        ValueError: timeout, frames or workers are not positive, or VIDEOSSP_MAX_PIXELS is invalid.
        RuntimeError: the workers do not start.
    """
    if timeout <= 0 or frames < 1 or (workers is not None and workers < 1):
        raise ValueError(f"timeout, frames and workers must be positive: {timeout}, {frames}, {workers}")
    max_pixels()  # a mistake in the environment is reported once, and not for every file
    keys: list[Part] = [(x.path, *x.part) for x in samples]
    left = Counter(keys)  # number of samples still to come
    call = partial(job, frames=frames, decode=decode)
    known: dict[Part, Probe] = {}
    digests: dict[str, str | None] = {}
    workers = min(workers or core_count(), max(1, len(left)))
    with closing(run_all(call, tasks_of(list(left), hashed), timeout, workers)) as results:
        for sample, key in with_bar(zip(samples, keys, strict=True), len(keys) if progress else 0):
            if key not in known:
                result = next(results)
                known[key] = replace(result, sha256=digests.setdefault(sample.path, result.sha256))
            left[key] -= 1
            yield replace(known[key] if left[key] else known.pop(key), name=sample.name)


def with_bar(items: Iterable[T], total: int) -> Iterable[T]:
    """The same items, with a progress bar if `total` is positive and stderr is a terminal."""
    from rich.progress import track  # imported here, because workers do not need it

    from videossp.system.progress import ErrorConsole

    console = ErrorConsole()
    if not total or not console.is_terminal:
        return items
    return track(items, "reading videos", total, console=console, transient=True)


def tasks_of(keys: Iterable[Part], hashed: bool) -> Iterator[Task]:
    """A task for each part of a file; the content is hashed with the first part."""
    seen = set()
    for path, start, end, selected in keys:
        yield path, start, end, hashed and path not in seen, selected
        seen.add(path)


def run_all(call: Job, tasks: Iterator[Task], timeout: float, workers: int) -> Generator[Probe, None, None]:
    """The results of `call` for all tasks, in their order; at most `AHEAD` tasks are submitted at once."""
    pending: deque[Task] = deque()  # submitted, without a result yet
    failures = 0
    while True:
        try:
            with pool_of(workers) as pool:
                futures = deque(submit(pool, call, task, timeout) for task in pending)
                while True:
                    while len(pending) < AHEAD and (task := next(tasks, None)):
                        pending.append(task)
                        futures.append(submit(pool, call, task, timeout))
                    if not pending:
                        return
                    result = result_of(pool, futures[0], pending[0][0], timeout)
                    futures.popleft()
                    pending.popleft()
                    failures = 0
                    yield result
        except BrokenProcessPool as error:
            # Pebble's pool breaks if a worker dies before it has reported which file it took. This is rare,
            # unless the workers do not start at all.
            failures += 1
            if failures == MAX_FAILURES:
                raise RuntimeError(
                    "the processes that read videos end as they start; a script must call this below "
                    "`if __name__ == '__main__':`"
                ) from error


def submit(pool: ProcessPool, call: Job, task: Task, timeout: float) -> "Future[Probe]":
    """Submit a task to the pool."""
    if not pool.active:
        raise BrokenProcessPool("the pool has stopped")
    return pool.schedule(call, task, timeout=timeout)


def result_of(pool: ProcessPool, future: "Future[Probe]", path: str, timeout: float) -> Probe:
    """The result of a job, or a probe with the reason why there is none."""
    try:
        while not wait([future], 1).done:  # a pool that stops may lose tasks
            if not pool.active:
                raise BrokenProcessPool("the pool has stopped")
        return future.result()
    except BrokenProcessPool:
        raise
    except TimeoutError:
        reason = f"no answer within {timeout:g} s"
    except ProcessExpired as error:
        reason = f"the process that read it died ({cause_of_death(error.exitcode)})"
    except Exception as error:
        reason = one_line(error)
    return Probe(path, "file.unreadable", f"{path}: {reason}")


def one_line(error: Exception) -> str:
    """An exception as one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def cause_of_death(code: int) -> str:
    """The signal that ended a process, or its exit code."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"


def core_count() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LastingLocks(SpawnContext):
    """Starts processes, and keeps their locks as long as it exists.

    Pebble's pool drops its locks before it ends its workers. A worker that has not started yet would then
    look for a lock that is gone, and print a traceback.
    """

    def __init__(self) -> None:
        self.locks: list[RLock] = []

    def RLock(self) -> RLock:
        self.locks.append(super().RLock())
        return self.locks[-1]


@contextmanager
def pool_of(workers: int) -> Iterator[ProcessPool]:
    """A pool of running workers; they are ended on exit, even in the middle of a file."""
    context = LastingLocks()
    pool = ProcessPool(workers, initializer=prepare_worker, context=context)
    try:
        with sigint_blocked():
            if not pool.active:  # starts the pool
                raise BrokenProcessPool("no worker could be started")
        yield pool
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()
        context.locks.clear()


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Block Ctrl-C for processes and threads that start meanwhile; ignoring it in them would be too late."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # if it started inside the block, it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def prepare_worker() -> None:
    """Make this worker end at once on SIGTERM, and when its parent process is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a Python handler would wait for FFmpeg to return
    if parent := parent_process():

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()
