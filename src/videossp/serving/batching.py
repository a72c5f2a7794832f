"""`Batcher`: requests of any adapters that come at the same time are computed in one pass."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from videossp.classifier import Classifier
from videossp.errors import OutOfMemoryError
from videossp.inference.mixed_batch import mixed_logits
from videossp.inference.passes import EVAL_BATCH
from videossp.model.device import is_out_of_memory, selected, to_device

Result = TypeVar("Result")
log = logging.getLogger("videossp.serve")


@dataclass(frozen=True, eq=False)
class Request:
    """Views that wait for a pass.

    Attributes:
        classifiers: which all compute these views.
        views: (views, 3, frames, height, width) uint8.
        rows: clips that the backbone computes for it.
        future: gets the probabilities (views, classes) of each classifier.
    """

    classifiers: Sequence[Classifier]
    views: Tensor
    rows: int
    future: "asyncio.Future[list[Tensor]]"


def divided(
    classifiers: Sequence[Classifier], views: Tensor, most: int
) -> Iterator[tuple[list[int], slice, int]]:
    """Divide classifiers and views into parts of at most `most` rows, or of one classifier and view.

    Classifiers that read only the output of the frozen backbone are one part, whose rows are its views. A
    method that mixes the clips of a batch gets the batches that it gets in `predict`.

    Yields:
        Numbers of classifiers, views, and rows.
    """
    alone = [i for i, x in enumerate(classifiers) if x.tuner.mixes_clips]
    readers = [i for i, x in enumerate(classifiers) if x.tuner.depends_on != "blocks" and i not in alone]
    others = [i for i in range(len(classifiers)) if i not in alone and i not in readers]
    for start in range(0, len(views), EVAL_BATCH):
        part = slice(start, min(start + EVAL_BATCH, len(views)))
        yield from (([i], part, part.stop - start) for i in alone)
    for start in range(0, len(views), most):
        part = slice(start, min(start + most, len(views)))
        count = part.stop - start
        if readers:
            yield readers, part, count
        step = max(1, most // count)
        for i in range(0, len(others), step):
            yield others[i : i + step], part, count * len(others[i : i + step])


class Observer(Protocol):
    """Called for each pass, with the numbers of its requests and rows."""

    def __call__(self, requests: int, rows: int) -> None: ...


class Batcher:
    """Computes requests in passes, in one thread.

    While a pass is computed, requests gather. When the thread is free, those that wait are the next pass. If
    more are being decoded, it waits a few milliseconds for them.

    Args:
        batch_size: rows of a pass; a request of more rows is divided.
        wait: seconds to wait for requests that are being decoded.
        coming: the number of requests that are being decoded for a pass.
        observe: called for each pass.
    """

    def __init__(
        self,
        batch_size: int,
        wait: float,
        *,
        coming: Callable[[], int] = lambda: 0,
        observe: Observer = lambda requests, rows: None,
    ) -> None:
        self.batch_size, self.wait, self.coming, self.observe = batch_size, wait, coming, observe
        self._thread = ThreadPoolExecutor(1, "videossp-compute")
        self._queue: asyncio.Queue[Request] = asyncio.Queue()
        self._held: Request | None = None  # did not fit into the last pass

    async def probabilities(self, classifiers: Sequence[Classifier], views: Tensor) -> list[Tensor]:
        """The probabilities (views, classes) of each classifier, on the CPU.

        Raises:
            FloatingPointError: they are not finite.
        """
        parts = [*divided(classifiers, views, self.batch_size)]
        requests = []
        for numbers, rows, count in parts:
            future: asyncio.Future[list[Tensor]] = asyncio.get_running_loop().create_future()
            requests.append(Request([classifiers[i] for i in numbers], views[rows], count, future))
            self._queue.put_nowait(requests[-1])
        found: list[list[Tensor]] = [[] for _ in classifiers]
        for (numbers, _, _), scores in zip(
            parts, await asyncio.gather(*(x.future for x in requests)), strict=True
        ):
            for i, own in zip(numbers, scores, strict=True):
                found[i].append(own)
        return [torch.cat(x) for x in found]

    async def call(self, function: Callable[[], Result]) -> Result:
        """The result of another function, which is called between two passes."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def run(self) -> None:
        """Compute requests until this task is cancelled."""
        while True:
            batch = await self._gather()
            try:
                await self._compute(batch)
            except Exception as error:  # the next requests must not wait for ever
                log.exception("a pass failed")
                for request in batch:
                    if not request.future.done():
                        request.future.set_exception(error)

    async def _compute(self, batch: Sequence[Request]) -> None:
        self.observe(len(batch), sum(x.rows for x in batch))
        found = await asyncio.get_running_loop().run_in_executor(self._thread, compute, batch)
        for request, result in zip(batch, found, strict=True):
            if request.future.done():  # its client is gone
                continue
            if isinstance(result, Exception):
                request.future.set_exception(result)
            else:
                request.future.set_result(result)

    def close(self) -> None:
        """End the thread, after the pass that it computes."""
        self._thread.shutdown(cancel_futures=True)

    async def _gather(self) -> list[Request]:
        """The requests of the next pass."""
        first = self._held
        while first is None or first.future.done():
            first = await self._queue.get()
        self._held = None
        batch, rows = [first], first.rows
        deadline = asyncio.get_running_loop().time() + self.wait
        while rows < self.batch_size:
            try:
                request = await self._next(deadline)
            except (TimeoutError, asyncio.QueueEmpty):
                break
            if rows + request.rows > self.batch_size:
                self._held = request
                break
            batch.append(request)
            rows += request.rows
        return batch

    async def _next(self, deadline: float) -> Request:
        """The next request whose client is still there."""
        while True:
            if not self._queue.empty() or not self.coming():
                request = self._queue.get_nowait()
            else:
                async with asyncio.timeout_at(deadline):
                    request = await self._queue.get()
            if not request.future.done():
                return request


@torch.inference_mode(False)
@torch.no_grad()
def compute(batch: Sequence[Request]) -> list[list[Tensor] | Exception]:
    """The probabilities of each request, or its exception.

    If a pass fails, because one adapter is damaged or memory is too small, its halves are tried.
    """
    device = batch[0].classifiers[0].device
    try:
        return list(_pass(batch))
    except Exception as error:
        if len(batch) == 1:
            if isinstance(error, RuntimeError) and is_out_of_memory(error, device):
                return [OutOfMemoryError(f"too little memory on {device} for {batch[0].rows} clips")]
            return [error]
    if device.type == "cuda":  # the tensors of the pass are freed only now, after its exception
        with suppress(RuntimeError):
            torch.cuda.empty_cache()
    middle = len(batch) // 2
    return [*compute(batch[:middle]), *compute(batch[middle:])]


def _pass(batch: Sequence[Request]) -> list[list[Tensor] | Exception]:
    device = batch[0].classifiers[0].device
    with selected(device):
        views = [to_device(x.views, device) for x in batch]
        pairs = [(y, clips) for x, clips in zip(batch, views, strict=True) for y in x.classifiers]
        scores = iter([x.float().softmax(-1).cpu() for x in mixed_logits(pairs, together=True)])
    found: list[list[Tensor] | Exception] = []
    for request in batch:
        own = [next(scores) for _ in request.classifiers]
        if all(x.isfinite().all() for x in own):
            found.append(own)
        else:
            found.append(
                FloatingPointError("scores that are not finite: the weights are damaged, or too large")
            )
    return found
