"""`Decoders`: worker processes that read uploaded videos; a video that hangs or kills one ends only that."""

import asyncio
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from typing import TypeVar

from pebble import ProcessExpired, ProcessPool

from videossp.serving.problem import Problem
from videossp.serving.uploaded_video import Refused, without_path
from videossp.system.worker_pool import Calls, cause_of_death, one_line, pool_of, submit

MODULES = ("videossp.serving.uploaded_video", "videossp.inference.decode_ahead")  # that workers need
TRIES = 3  # of a call whose pool breaks before it tells whose fault that is
KILLED = {-signal.SIGTERM, -getattr(signal, "SIGKILL", 9)}  # by the system or its user, not by the video
Result = TypeVar("Result")


class Decoders:
    """Calls functions on uploaded files in worker processes, each within a time limit.

    Args:
        workers: number of processes.
        timeout: seconds per call.
    """

    def __init__(self, workers: int, timeout: float) -> None:
        self.workers, self.timeout = workers, timeout
        self._stack = ExitStack()
        self._pool: ProcessPool | None = None
        self._starting = threading.Lock()

    def start(self) -> None:
        """Start the processes."""
        self._running(None)

    def stop(self) -> None:
        """End the processes, also in the middle of a call."""
        with self._starting:
            self._stack.close()
            self._pool = None

    async def call(self, function: Callable[[str], Result | Refused], path: str) -> Result:
        """The result of a function of an uploaded file.

        Raises:
            Problem: the function refuses the file; or it needs too much time, or ends its process.
        """
        calls = Calls(function, self.timeout, self.workers, 1, modules=MODULES)
        broken: ProcessPool | None = None
        for _ in range(TRIES):
            try:
                pool = self._pool
                if pool is None or pool is broken or not pool.active:
                    pool = await asyncio.to_thread(self._running, broken)
                broken = pool
                result = await self._result(pool, submit(pool, calls, path))
            except BrokenProcessPool:
                continue
            except TimeoutError:
                raise Problem(422, f"the video could not be decoded within {self.timeout:g} s") from None
            except ProcessExpired as error:
                if error.exitcode in KILLED:
                    raise Problem(
                        503, "the process that decoded the video was killed; try again", {"Retry-After": "1"}
                    ) from None
                cause = cause_of_death(error.exitcode)
                raise Problem(422, f"the video ends the decoder ({cause}); it is damaged") from None
            except MemoryError:
                raise Problem(422, "the video needs too much memory to be decoded") from None
            except Exception as error:
                reason = without_path(one_line(error), path)
                raise Problem(422, f"the video cannot be decoded: {reason}") from error
            if isinstance(result, Refused):
                raise Problem(result.status, result.reason)
            return result
        raise Problem(503, "the processes that decode videos do not start; try again", {"Retry-After": "5"})

    async def _result(self, pool: ProcessPool, future: "Future[Result]") -> Result:
        wrapped = asyncio.wrap_future(future)
        try:
            while not (await asyncio.wait([wrapped], timeout=1))[0]:
                if not pool.active:  # a pool that stops may lose tasks
                    raise BrokenProcessPool("the pool has stopped")
            return wrapped.result()
        finally:
            wrapped.cancel()  # if the client is gone, nobody needs the result: the process may be ended

    def _running(self, broken: ProcessPool | None) -> ProcessPool:
        """The pool; a new one in place of one that is broken."""
        with self._starting:
            if self._pool is None or self._pool is broken or not self._pool.active:
                self._stack.close()
                self._pool = self._stack.enter_context(pool_of(self.workers, MODULES))
            return self._pool
