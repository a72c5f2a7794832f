"""`Service`: predictions, explanations, embeddings and jobs of uploaded videos, for all routes."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from videossp.classifier import Classifier
from videossp.data.sampling import ClipFormat
from videossp.embedding.features import Kind, features_of
from videossp.explanation.explain import ExplainSettings, check_class, explain_classes
from videossp.explanation.explanation import Explanation
from videossp.inference.passes import Passes, finite
from videossp.inference.predict import usual_batch
from videossp.serving.adapters import Adapter, Adapters
from videossp.serving.batching import Batcher
from videossp.serving.decoders import Decoders
from videossp.serving.gate import Gate
from videossp.serving.jobs import Job, Jobs
from videossp.serving.metrics import Metrics
from videossp.serving.problem import Problem
from videossp.serving.settings import ServeSettings
from videossp.serving.uploaded_video import ContainerCheck, ReadClips, Reader
from videossp.serving.uploads import Budget, Uploads

if TYPE_CHECKING:
    from starlette.requests import Request

RELOAD = 1.0  # seconds between two looks at the files of the adapters
MOST_MODELS = 64  # adapters in a request
VIDEOS_AT_ONCE, JOBS_AT_ONCE = 20, 2  # videos of the largest size that are received at the same time
MOST_LOADS = 8  # requests to load an adapter that wait or are carried out
log = logging.getLogger("videossp.serve")
Result = TypeVar("Result")


@dataclass
class Timing:
    """Seconds of the parts of a request, as the header Server-Timing gives them."""

    parts: dict[str, float] = field(default_factory=dict)

    def header(self) -> str:
        """name;dur=MILLISECONDS of each part."""
        return ", ".join(f"{name};dur={1000 * x:.1f}" for name, x in self.parts.items())


class Service:
    """All that computes, without HTTP.

    Args:
        adapters: that are served.
        settings: limits.
        temporary: where uploaded videos are kept while they are computed; None: the system's folder.

    Attributes:
        stopping: whether no new requests are taken.
    """

    def __init__(self, adapters: Adapters, settings: ServeSettings, temporary: Path | None = None) -> None:
        self.adapters, self.settings, self.metrics = adapters, settings, Metrics()
        self.uploads = Uploads(temporary)
        self._budget = Budget(VIDEOS_AT_ONCE * settings.max_bytes)
        self._job_budget = Budget(JOBS_AT_ONCE * settings.max_job_bytes)
        self.decoders = Decoders(settings.workers, settings.timeout)
        self.gate = Gate("requests", settings.queue)
        self.explain_gate = Gate("explanations", settings.explain_queue)
        self.load_gate = Gate("adapters to be loaded", MOST_LOADS)
        self.jobs = Jobs(settings, lambda job: self.metrics.jobs.labels(job.status).inc())
        self.decoding = 0
        self.batcher = Batcher(
            settings.batch_size,
            settings.batch_wait,
            coming=lambda: self.decoding,
            observe=self.metrics.pass_of,
        )
        self.stopping = False
        self._slow = ThreadPoolExecutor(1, "videossp-explain")
        self._loader = ThreadPoolExecutor(1, "videossp-load")
        self._explanations: set[threading.Event] = set()
        self._batching: asyncio.Task[None] | None = None
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "adapters": ("Adapters in memory", lambda: len(adapters.all())),
            "backbones": ("Backbones in memory", adapters.backbones),
            "waiting_requests": ("Predictions and embeddings that wait or run", lambda: self.gate.inside),
            "waiting_jobs": ("Jobs that wait or run", self.jobs.running),
        }
        for name, (text, value) in gauges.items():
            self.metrics.gauge(name, text, value)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Within this context requests can be answered."""
        async with AsyncExitStack() as stack:  # each step at the end is done, also after one that fails
            if self.uploads.folder is None:
                self.uploads.open()
            stack.callback(self.uploads.close)
            stack.push_async_callback(asyncio.to_thread, self.decoders.stop)
            await asyncio.to_thread(self.decoders.start)
            for thread in (self._slow, self._loader):
                stack.callback(thread.shutdown, wait=False, cancel_futures=True)
            stack.callback(self.batcher.close)
            self._batching = asyncio.create_task(self.batcher.run())
            stack.push_async_callback(ended, self._batching)
            stack.push_async_callback(ended, asyncio.create_task(self._reload()))
            stack.callback(self._end_explanations)
            stack.push_async_callback(self.jobs.close)
            try:
                yield
            finally:
                self.stopping = True

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return not self.stopping and self._batching is not None and not self._batching.done()

    async def predict(self, chosen: Sequence[Adapter], request: "Request", timing: Timing) -> list[Tensor]:
        """The probabilities (classes,) of adapters for the video in the body: means over its views.

        Raises:
            Problem: see `Uploads.received` and `Decoders.call`.
        """
        self.gate.check()
        async with self.uploaded(request, self.settings.max_bytes, timing) as path:
            with self.gate.enter():
                return await unless_gone(request, self.probabilities(chosen, path, timing))

    async def probabilities(self, chosen: Sequence[Adapter], path: Path, timing: Timing) -> list[Tensor]:
        """The probabilities (classes,) of adapters for a file; clips of one format are decoded once."""
        formats: dict[ClipFormat, list[int]] = {}
        for i, x in enumerate(chosen):
            formats.setdefault(x.classifier.clip_format, []).append(i)
        found: dict[int, Tensor] = {}
        for clip_format, members in formats.items():
            self.decoding += 1
            try:
                views = await self.decoded(path, clip_format, clip_format.views, timing)
            finally:
                self.decoding -= 1
            classifiers = [chosen[i].classifier for i in members]
            scores = await timed(
                timing, "model", self.batcher.probabilities(classifiers, torch.from_numpy(views.views))
            )
            found |= {i: x.mean(0) for i, x in zip(members, scores, strict=True)}
        return [found[i] for i in range(len(chosen))]

    async def embed(self, name: str, kind: Kind, request: "Request", timing: Timing) -> Tensor:
        """The feature vector (width,) of the video in the body, see `embed`."""
        classifier = self.with_weights(name)
        self.gate.check()
        async with self.uploaded(request, self.settings.max_bytes, timing) as path:
            with self.gate.enter():
                return await unless_gone(request, self._vector(classifier, kind, path, timing))

    async def _vector(self, classifier: Classifier, kind: Kind, path: Path, timing: Timing) -> Tensor:
        clip_format = classifier.clip_format
        read = await self.decoded(path, clip_format, clip_format.views, timing)
        views = torch.from_numpy(read.views)
        passes = Passes(
            classifier, lambda x: features_of(classifier, x, kind).float(), usual_batch([classifier], None)
        )
        return await timed(timing, "model", self.batcher.call(lambda: finite(passes(views).cpu()).mean(0)))

    async def explain(
        self,
        name: str,
        target: str | None,
        settings: ExplainSettings,
        request: "Request",
        timing: Timing,
    ) -> Explanation:
        """The explanation of a prediction for the video in the body."""
        classifier = self.with_weights(name)
        if target is not None:
            try:
                check_class(target, classifier.classes)
            except ValueError as error:
                raise Problem(422, str(error)) from None
        self.explain_gate.check()
        async with self.uploaded(request, self.settings.max_bytes, timing) as path:
            with self.explain_gate.enter():
                return await unless_gone(
                    request, self._explanation(classifier, target, settings, path, timing)
                )

    async def _explanation(
        self,
        classifier: Classifier,
        target: str | None,
        settings: ExplainSettings,
        path: Path,
        timing: Timing,
    ) -> Explanation:
        read = await self.decoded(path, classifier.clip_format, (1, 1), timing)
        clip, targets = torch.from_numpy(read.views[0]), None if target is None else [target]
        stopped, limit = threading.Event(), self.settings.explain_timeout

        def compute() -> Explanation:
            deadline = monotonic() + limit

            def report(count: int) -> None:
                if stopped.is_set():
                    raise Problem(503, "the service is stopping", {"Retry-After": "30"})
                if monotonic() > deadline:
                    raise Problem(422, f"the explanation takes longer than {limit:g} s: give fewer steps")

            report(0)  # it may have waited for long
            return explain_classes(classifier, clip, targets, settings, report=report)[0]

        self._explanations.add(stopped)
        try:
            work = asyncio.get_running_loop().run_in_executor(self._slow, compute)
            found = await timed(timing, "model", work)
        finally:
            stopped.set()  # also if the client is gone
            self._explanations.discard(stopped)
        return replace(found, seconds=read.times)

    def _end_explanations(self) -> None:
        for stopped in self._explanations:
            stopped.set()

    def with_weights(self, name: str) -> Classifier:
        """The classifier of an adapter.

        Raises:
            Problem: there is none of this name, or it is an exported model.
        """
        adapter = self.chosen([name])[0]
        if adapter.exported:
            raise Problem(422, f"{adapter.name} is an exported model, which only predicts: serve its adapter")
        return adapter.classifier

    async def load(self, folder: str, name: str | None) -> Adapter:
        """Load an adapter from below the folder of `--adapters`; one after the other."""
        self.check_taking()
        with self.load_gate.enter():
            return await asyncio.get_running_loop().run_in_executor(
                self._loader, self.adapters.load_below, folder, name
            )

    async def unload(self, name: str) -> None:
        """Unload an adapter, after the loads that wait."""
        self.check_taking()
        with self.load_gate.enter():
            await asyncio.get_running_loop().run_in_executor(self._loader, self.adapters.remove, name)

    def check_taking(self) -> None:
        """Raise the answer 503 if the service is stopping."""
        if self.stopping:
            raise Problem(503, "the service is stopping", {"Retry-After": "30"})

    async def start_job(
        self, name: str, window: float | None, hop: float | None, request: "Request", timing: Timing
    ) -> Job:
        """A job for the video in the body."""
        adapter = self.chosen([name])[0]
        async with AsyncExitStack() as stack:
            stack.enter_context(self.jobs.gate.enter())
            path = await stack.enter_async_context(
                self.uploaded(request, self.settings.max_job_bytes, timing, job=True)
            )
            check = ContainerCheck(self.settings.max_pixels)
            await unless_gone(request, self.decoders.call(check, str(path)))  # not only when the job begins
            self.check_taking()
            return self.jobs.start(name, adapter.classifier, path, stack, window=window, hop=hop)

    def chosen(self, names: Sequence[str]) -> list[Adapter]:
        """The adapters of these names.

        Raises:
            Problem: there are none, one is not loaded, or the service stops.
        """
        self.check_taking()
        if not names:
            raise Problem(422, "name an adapter: ?model=NAME")
        if len(names) > MOST_MODELS:
            raise Problem(422, f"at most {MOST_MODELS} adapters in a request, got {len(names)}")
        return [self.adapters.get(x) for x in dict.fromkeys(names)]

    @asynccontextmanager
    async def uploaded(
        self, request: "Request", most: int, timing: Timing, *, job: bool = False
    ) -> AsyncIterator[Path]:
        """The body of a request as a file; a larger one may take longer than `upload_timeout`.

        Args:
            request: whose body is read.
            most: bytes.
            timing: gets the seconds.
            job: whether it counts in the budget of jobs, so that they leave room for other requests.
        """
        start, usual = perf_counter(), self.settings.max_bytes
        seconds = self.settings.upload_timeout * max(1.0, most / usual)
        hint = "; send a long video to /v1/jobs" if most == usual and not job else ""
        budget = self._job_budget if job else self._budget
        async with self.uploads.received(request, most, seconds, budget, hint) as path:
            timing.parts["upload"] = perf_counter() - start
            yield path

    async def decoded(
        self, path: Path, clip_format: ClipFormat, views: tuple[int, int], timing: Timing
    ) -> ReadClips:
        """The views of a file, decoded in a worker process."""
        limits = self.settings
        reader = Reader(clip_format, *views, max_pixels=limits.max_pixels, max_seconds=limits.max_seconds)
        start = perf_counter()
        try:
            return await timed(timing, "decode", self.decoders.call(reader, str(path)))
        finally:
            self.metrics.decode_seconds.observe(perf_counter() - start)

    async def _reload(self) -> None:
        while True:
            await asyncio.sleep(RELOAD)
            try:
                await asyncio.get_running_loop().run_in_executor(self._loader, self.adapters.reload_changed)
            except Exception:  # the next look may succeed
                log.exception("looking for replaced adapters")


async def timed(timing: Timing, name: str, work: Awaitable[Result]) -> Result:
    """The result of work, whose seconds are added to a part of the timing."""
    start = perf_counter()
    try:
        return await work
    finally:
        timing.parts[name] = timing.parts.get(name, 0.0) + perf_counter() - start


async def ended(task: "asyncio.Task[None]") -> None:
    """Cancel a task, and wait for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def unless_gone(request: "Request", work: Coroutine[Any, Any, Result]) -> Result:
    """The result of work; it is cancelled if the client closes the connection.

    Raises:
        Problem: the client is gone; nobody reads this answer.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            return tasks[0].result()
        raise Problem(400, "the connection ended before the result was there")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
