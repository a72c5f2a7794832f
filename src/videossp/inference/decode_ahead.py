"""`decode_ahead`: the views of videos in their order, decoded ahead in worker processes."""

from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch

from videossp.data.clips import read_views
from videossp.data.sampling import ClipFormat, check_views
from videossp.data.video.remote import local_copy
from videossp.errors import DataError
from videossp.system.worker_pool import Calls, Lost, run_tasks

MODULES = ("videossp.inference.decode_ahead",)  # that workers need
Fetch = Callable[[str], AbstractContextManager[str]]


@dataclass(frozen=True)
class Reading:
    """How videos become views; picklable, so that workers can read.

    Attributes:
        clip_format: frames and size of a clip.
        segments, crops: views per video.
        fetch: from the name of a video to its path on this machine, as long as the context is open.
    """

    clip_format: ClipFormat
    segments: int = 1
    crops: int = 1
    fetch: Fetch = local_copy

    def __post_init__(self) -> None:
        check_views(self.clip_format, self.segments, self.crops)

    def __call__(self, video: str) -> "np.ndarray | str":
        """The raw views, (views, 3, frames, height, width) uint8, or the reason why there are none."""
        try:
            with self.fetch(video) as path:
                views = read_views(path, self.clip_format, self.segments, self.crops, raw=True)
        except DataError as error:
            return str(error)
        return views.numpy()


def decode_ahead(
    videos: Iterable[str],
    reading: Reading,
    *,
    workers: int = 0,
    timeout: float | None = None,
    ahead: int = 8,
) -> Generator[tuple[str, torch.Tensor | None, str], None, None]:
    """(video, raw views, "") of each video in order, or (video, None, reason) if it cannot be decoded.

    With workers, a video that crashes the decoder, or takes too long, is one that cannot be decoded. To stop
    early, close the iterator.

    Args:
        videos: names that `reading` fetches; they are taken only as far ahead as is decoded.
        workers: processes that decode; 0: this process does, and a crash ends it. With workers, a script
            needs `if __name__ == "__main__":`, see `run_tasks`.
        timeout: seconds per video that a worker may take; None: no limit.
        ahead: decoded videos that wait at most, besides one for each worker.
    """
    if not workers:
        for video in videos:
            yield _decoded(video, reading(video))
        return
    waiting: list[str] = []

    def tasks() -> Generator[str, None, None]:
        for video in videos:
            waiting.append(video)
            yield video

    alone = _Alone(reading)
    calls = Calls(alone, timeout, workers, ahead + workers, modules=MODULES)
    results = run_tasks(calls, tasks())
    try:
        for result in results:
            video = waiting.pop(0)
            yield _decoded(video, f"{video}: {result.reason}" if isinstance(result, Lost) else result)
    finally:
        results.close()


@dataclass(frozen=True)
class _Alone:
    """A reading in a worker, which has one core."""

    reading: Reading

    def __call__(self, video: str) -> "np.ndarray | str":
        torch.set_num_threads(1)
        return self.reading(video)


def _decoded(video: str, result: "np.ndarray | str") -> tuple[str, torch.Tensor | None, str]:
    if isinstance(result, str):
        return video, None, result
    return video, torch.from_numpy(result), ""
