"""`probe_all`: read every file of a data set in worker processes, each within a time limit."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

# Workers import this file, so nothing here may import torch, which takes seconds.
from videossp.data.datasets.sample import Sample
from videossp.data.sampling import ClipFormat, eval_indices
from videossp.data.video import max_pixels, read_video
from videossp.data.video.container import open_stream
from videossp.data.video.decode import read_frames_and_notes
from videossp.data.video.files import images_of
from videossp.data.video.images import read_image
from videossp.errors import DataError, NoVideoError, TruncatedError
from videossp.system.worker_pool import Calls, Lost, core_count, one_line, run_tasks

AHEAD = 4096  # files submitted ahead of the oldest one, so that a slow file does not stop the others
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

    A script that calls this needs `if __name__ == "__main__":`, see `run_tasks`. To stop early, close the
    iterator.

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
    call = partial(call_with, partial(job, frames=frames, decode=decode))
    known: dict[Part, Probe] = {}
    digests: dict[str, str | None] = {}
    workers = min(workers or core_count(), max(1, len(left)))
    calls: Calls[Task, Probe] = Calls(call, timeout, workers, AHEAD)
    stream = run_tasks(calls, tasks_of(list(left), hashed))
    with closing(stream) as results:
        for sample, key in with_bar(zip(samples, keys, strict=True), len(keys) if progress else 0):
            if key not in known:
                result = next(results)
                if isinstance(result, Lost):
                    result = Probe(sample.path, "file.unreadable", f"{sample.path}: {result.reason}")
                known[key] = replace(result, sha256=digests.setdefault(sample.path, result.sha256))
            left[key] -= 1
            yield replace(known[key] if left[key] else known.pop(key), name=sample.name)


def call_with(job: Job, task: Task) -> Probe:
    """Call a job with the parts of a task."""
    return job(*task)


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
