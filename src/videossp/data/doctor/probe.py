"""What the files of a data set hold: every file is read in a worker process, within a time limit."""

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
from multiprocessing import get_context, parent_process, resource_tracker
from pathlib import Path
from typing import TypeVar

import av
from pebble import ProcessExpired, ProcessPool

# A worker imports this file: nothing here may need torch, which takes seconds to load.
from videossp.data.datasets.sample import Sample
from videossp.data.sampling import ClipFormat, eval_indices
from videossp.data.video import max_pixels, read_frames, read_video
from videossp.data.video.container import open_stream
from videossp.data.video.files import images_of
from videossp.errors import DataError, NoVideoError, TruncatedError

AHEAD = 4096  # files handed out before their turn: while one waits for its time limit the others go on
STRIKES = 3  # worker pools in a row that break before they have answered anything
BLOCK = 1 << 20  # bytes hashed at once
CHECKS: dict[type[Exception], str] = {TruncatedError: "file.truncated", NoVideoError: "file.no-video"}
T = TypeVar("T")
Task = tuple[str, float | None, float | None, bool]  # path, start, end, whether to hash the content


@dataclass(frozen=True, slots=True)
class Probe:
    """What a video holds, or why it cannot be read.

    Attributes:
        name: of the sample.
        check: id of what is wrong: file.unreadable, file.truncated, file.no-video; None: nothing.
        message: one line that says it, with the file's path.
        frames: how many are shown, in the sample's part of the file; None if that could not be told.
        seconds: how long they are shown; None if that could not be told, or for a folder of frames.
        sha256: of the file's content, or of the contents of a folder's images in order; None if not read.
        frozen: the frames that were decoded, at least two, have the same pixels.
        size: (height, width) in pixels as the header has it, before any rotation.
    """

    name: str
    check: str | None = None
    message: str = ""
    frames: int | None = None
    seconds: float | None = None
    sha256: str | None = None
    frozen: bool = False
    size: tuple[int, int] | None = None


Job = Callable[..., Probe]


def probe_file(
    path: str, start: float | None, end: float | None, hashed: bool, *, frames: int, decode: bool
) -> Probe:
    """The probe of one part of one file; see `probe_all`. Nothing that is wrong with a file is raised."""
    probe = Probe(path)
    try:
        video = read_video(path)  # of all of it, for a part may not be there
        probe = replace(probe, sha256=content_hash(Path(path)) if hashed else None)
        video = read_video(path, start, end)
        seconds, size = video.seconds, size_of(Path(path))
        probe = replace(probe, frames=len(video), seconds=seconds, size=size)
        if decode:
            wanted = sorted({*eval_indices(len(video), ClipFormat(frames)), len(video) - 1})
            images = read_frames(video, lambda _: wanted)
            frozen = len(images) > 1 and all((image == images[0]).all() for image in images)
            probe = replace(probe, frozen=frozen)
    except Exception as error:  # whatever else a damaged file provokes must not end the others
        message = str(error) if isinstance(error, DataError) else f"{path}: {described(error)}"
        return replace(probe, check=CHECKS.get(type(error), "file.unreadable"), message=message)
    return probe


def size_of(path: Path) -> tuple[int, int] | None:
    """(height, width) that the header of a video, or of the first image of a folder, tells."""
    if path.is_dir():
        # Without pattern_type, image2 would read a percent sign in a name as a number's place.
        options = {"pattern_type": "none", "max_pixels": str(max_pixels())}
        with av.open(f"file:{images_of(path)[0]}", format="image2", options=options) as container:
            size = container.streams.video[0].height, container.streams.video[0].width
    else:
        with open_stream(path) as (_, stream):
            size = stream.height, stream.width
    return size if all(size) else None


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of the images of a folder one after the other."""
    digest = hashlib.sha256()
    for file in images_of(path) if path.is_dir() else [path]:
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
    """The probes of samples, in their order. The same part of a file is read once.

    Workers start afresh ("spawn"), for a fork would copy this process in the midst of what its threads do;
    so a script that calls this needs `if __name__ == "__main__":`. To end before the last sample, close the
    iterator.

    Args:
        frames: of a clip: with `decode`, the ones that a uniform clip takes and the last are decoded.
        decode: if not, only packets are read: that finds what is cut short, but not what is damaged inside.
        hashed: hash the content too, once for all parts of a file.
        timeout: seconds for a file. A worker that takes longer is ended and its file is unreadable, and
            so is a file at which a worker dies; the others go on.
        workers: processes; None: one for each core.
        progress: show a bar on stderr if that is a terminal.
        job: what a worker does with a file.

    Raises:
        RuntimeError: the workers do not start.
    """
    if timeout <= 0 or frames < 1 or (workers is not None and workers < 1):
        raise ValueError(f"timeout, frames and workers must be positive: {timeout}, {frames}, {workers}")
    max_pixels()  # what is wrong with the environment is not wrong with every file
    keys = [(x.path, x.start, x.end) for x in samples]
    left = Counter(keys)  # of each, how many samples are still to come
    call = partial(job, frames=frames, decode=decode)
    known: dict[tuple[str, float | None, float | None], Probe] = {}
    digests: dict[str, str | None] = {}
    workers = min(workers or cores(), max(1, len(left)))
    with closing(run_all(call, tasks_of(list(left), hashed), timeout, workers)) as answers:
        for sample, key in with_bar(zip(samples, keys, strict=True), len(keys) if progress else 0):
            if key not in known:
                answer = next(answers)
                known[key] = replace(answer, sha256=digests.setdefault(sample.path, answer.sha256))
            left[key] -= 1
            yield replace(known[key] if left[key] else known.pop(key), name=sample.name)


def with_bar(items: Iterable[T], total: int) -> Iterable[T]:
    """The same items; with a bar if there is a total and stderr is a terminal."""
    from rich.console import Console  # here, for workers need no bar
    from rich.progress import track

    console = Console(stderr=True)
    if not total or not console.is_terminal:
        return items
    return track(items, "reading videos", total, console=console, transient=True)


def tasks_of(keys: Iterable[tuple[str, float | None, float | None]], hashed: bool) -> Iterator[Task]:
    """A task for each part of a file; the first of a file has its content hashed."""
    met = set()
    for path, start, end in keys:
        yield path, start, end, hashed and path not in met
        met.add(path)


def run_all(call: Job, tasks: Iterator[Task], timeout: float, workers: int) -> Generator[Probe, None, None]:
    """What `call` gives for each task, in their order; at most `AHEAD` are under way."""
    pending: deque[Task] = deque()  # handed out, not yet answered
    strikes = 0
    while True:
        try:
            with pool_of(workers) as pool:
                futures = deque(hand_out(pool, call, task, timeout) for task in pending)
                while True:
                    while len(pending) < AHEAD and (task := next(tasks, None)):
                        pending.append(task)
                        futures.append(hand_out(pool, call, task, timeout))
                    if not pending:
                        return
                    answer = answer_of(pool, futures[0], pending[0][0], timeout)
                    futures.popleft()
                    pending.popleft()
                    strikes = 0
                    yield answer
        except BrokenProcessPool as error:
            # Pebble gives up if a worker dies before it has heard which file that one took. Rare by accident;
            # again and again if the workers do not even start.
            strikes += 1
            if strikes == STRIKES:
                raise RuntimeError(
                    "the processes that read videos end as they start; a script must call this below "
                    "`if __name__ == '__main__':`"
                ) from error


def hand_out(pool: ProcessPool, call: Job, task: Task, timeout: float) -> "Future[Probe]":
    """The future answer of a worker."""
    if not pool.active:
        raise BrokenProcessPool("the pool has stopped")
    return pool.schedule(call, task, timeout=timeout)


def answer_of(pool: ProcessPool, future: "Future[Probe]", path: str, timeout: float) -> Probe:
    """The result of a job, or that the file has none."""
    try:
        while not wait([future], 1).done:  # a pool that stops may forget what it was handed
            if not pool.active:
                raise BrokenProcessPool("the pool has stopped")
        return future.result()
    except BrokenProcessPool:
        raise
    except TimeoutError:
        reason = f"no answer within {timeout:g} s"
    except ProcessExpired as error:
        reason = f"the process that read it died ({died_of(error.exitcode)})"
    except Exception as error:
        reason = described(error)
    return Probe(path, "file.unreadable", f"{path}: {reason}")


def described(error: Exception) -> str:
    """An exception on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def died_of(code: int) -> str:
    """The signal that ended a process, or its exit code."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def pool_of(workers: int) -> Iterator[ProcessPool]:
    """Running workers, that are gone afterwards, whatever they are at."""
    pool = ProcessPool(workers, initializer=prepare_worker, context=get_context("spawn"))
    try:
        with deaf():
            if not pool.active:  # asking starts it
                raise BrokenProcessPool("no worker could be started")
        yield pool
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


@contextmanager
def deaf() -> Iterator[None]:
    """Processes and threads that start meanwhile never hear Ctrl-C, not even before they could ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # would unblock the signal if it started in between
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def prepare_worker() -> None:
    """Let this worker be ended at any time, and end it when its parent is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a Python handler would wait for FFmpeg to return
    if parent := parent_process():

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()
