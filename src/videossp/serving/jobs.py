"""`Jobs`: the segments of long videos, found one video after the other while requests are answered."""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe
from typing import Literal

from videossp.classifier import Classifier
from videossp.data.video import Video
from videossp.errors import DataError, VideoSSPError
from videossp.inference.passes import scoring
from videossp.serving.gate import Gate
from videossp.serving.job_windows import JobWindows, Recording
from videossp.serving.problem import Problem
from videossp.serving.settings import ServeSettings
from videossp.serving.uploaded_video import without_path
from videossp.system.worker_pool import one_line
from videossp.watching.segment import Segment
from videossp.watching.watch import Watcher

MOST_KEPT = 1000  # results
log = logging.getLogger("videossp.serve")
Status = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(eq=False)
class Job:
    """A long video and the segments found in it so far.

    Attributes:
        id: random; who knows it can read the result.
        model: name of the adapter.
        path: of the video; it is removed at the end.
        watcher: finds the segments; None at the end, as it holds the adapter in memory.
        status: of the job.
        segments: found so far.
        video: None before it is opened.
        done: seconds of it that are done.
        error: why it failed; the segments until then stay.
        ended: reading of the monotonic clock.
        cancelled: whether it is to end.
        deadline: reading of the monotonic clock at which its time is over.
        finished: is set at the end.
    """

    id: str
    model: str
    path: Path
    watcher: Watcher | None
    status: Status = "queued"
    segments: list[Segment] = field(default_factory=list)
    video: Video | None = None
    done: float = 0.0
    error: str | None = None
    ended: float = 0.0
    cancelled: bool = False
    deadline: float = math.inf
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    def stopped(self) -> bool:
        """Whether it was cancelled, or its time is over."""
        return self.cancelled or time.monotonic() > self.deadline

    @property
    def seconds(self) -> float | None:
        """Duration of the video; None before it is opened."""
        return None if self.video is None else self.video.seconds

    @property
    def progress(self) -> float:
        """The part of the video that is done, from 0 to 1."""
        if self.status == "done":
            return 1.0
        done = self.watcher.counts.seconds if self.watcher else self.done
        return min(1.0, done / self.seconds) if self.seconds else 0.0


class Jobs:
    """Runs jobs in a thread, one after the other.

    Args:
        settings: limits.
        observe: called with each job that has ended.

    Attributes:
        gate: counts jobs from the start of their upload.
        last_end: reading of the monotonic clock at the end of the last job.
    """

    def __init__(self, settings: ServeSettings, observe: Callable[[Job], None] = lambda job: None) -> None:
        self.settings, self.observe = settings, observe
        self.gate = Gate("jobs", settings.job_queue)
        self._jobs: dict[str, Job] = {}
        self._thread = ThreadPoolExecutor(1, "videossp-job")
        self._turn = asyncio.Lock()
        self.last_end = -math.inf
        self._tasks: dict[Job, asyncio.Task[None]] = {}
        self._waiting: set[Job] = set()  # for their turn

    def start(
        self,
        model: str,
        classifier: Classifier,
        path: Path,
        upload: AsyncExitStack,
        *,
        window: float | None = None,
        hop: float | None = None,
    ) -> Job:
        """Queue a job.

        Args:
            model: name of the adapter.
            classifier: of the adapter.
            path: of the video.
            upload: is closed at the end of the job, which removes the video.
            window, hop: see `watch`.

        Raises:
            Problem: windows that do not fit.
        """
        found: list[Job] = []
        windows = () if window is None else (window,)
        try:
            watcher = Watcher(classifier, path, windows=windows, hop=hop, stopped=lambda: found[0].stopped())
        except ValueError as error:
            raise Problem(422, str(error).replace("(--window)", "(window=)")) from None
        job = Job(token_urlsafe(16), model, path, watcher)
        found.append(job)
        self._forget()
        self._jobs[job.id] = job
        self._tasks[job] = asyncio.create_task(self._run(job, upload.pop_all()))
        return job

    def get(self, name: str) -> Job:
        """The job of this id.

        Raises:
            Problem: there is none, or its result is gone.
        """
        self._forget()
        if name not in self._jobs:
            raise Problem(404, "no job of this id; results are kept for a limited time")
        return self._jobs[name]

    def cancel(self, name: str) -> Job:
        """End a job; the segments until then stay.

        Raises:
            Problem: there is none of this id.
        """
        job = self.get(name)
        self.end(job)
        return job

    def end(self, job: Job) -> None:
        """End a job, unless it has ended."""
        job.cancelled = True
        if job in self._waiting:
            self._tasks[job].cancel()  # the place in the queue and the video are free at once

    def running(self) -> int:
        """Jobs that wait or run."""
        return len(self._tasks)

    async def close(self) -> None:
        """End all jobs."""
        for job in [*self._tasks]:
            self.end(job)
        if self._tasks:
            await asyncio.wait(self._tasks.values())
        self._thread.shutdown()

    async def _run(self, job: Job, upload: AsyncExitStack) -> None:
        self._waiting.add(job)
        try:
            async with upload:
                if job.cancelled:  # before this task began
                    raise asyncio.CancelledError
                async with self._turn:
                    self._waiting.discard(job)
                    await asyncio.get_running_loop().run_in_executor(self._thread, self._compute, job)
        except asyncio.CancelledError:
            job.status = "cancelled"
        except Exception as error:
            log.exception("job of %s", job.model)
            job.status, job.error = "failed", one_line(error)
        finally:
            self._waiting.discard(job)
            if job.watcher:
                job.done, job.watcher = job.watcher.counts.seconds, None
            del self._tasks[job]
            job.ended = self.last_end = time.monotonic()
            job.finished.set()
            self.observe(job)

    def _compute(self, job: Job) -> None:
        limits, watcher = self.settings, job.watcher
        if job.cancelled or watcher is None:
            job.status = "cancelled"
            return
        job.status, job.deadline = "running", time.monotonic() + limits.job_timeout
        classifier = watcher.classifier
        recording = Recording(
            str(job.path), watcher.grid, classifier.clip_format, limits.max_pixels, limits.max_job_seconds
        )
        try:
            with closing(JobWindows(recording, limits.timeout, job.stopped)) as windows:
                job.video = windows.video
                passes = scoring(classifier, 1 if classifier.tuner.mixes_clips else None)
                for segment in watcher.recorded(windows, passes):
                    job.segments.append(segment)
            if not job.cancelled and job.stopped():
                raise DataError(f"not finished within {limits.job_timeout:g} s; choose a longer hop")
            job.status = "cancelled" if job.cancelled else "done"
        except (VideoSSPError, FloatingPointError) as error:
            if job.cancelled:
                job.status = "cancelled"
                return
            job.error, job.status = without_path(error, str(job.path)), "failed"

    def _forget(self) -> None:
        """Forget jobs that ended long ago."""
        now = time.monotonic()
        ended = [x for x in self._jobs.values() if x.ended]
        old = [x for x in ended if now - x.ended > self.settings.keep_jobs]
        for job in old or ended[:-MOST_KEPT]:
            del self._jobs[job.id]
