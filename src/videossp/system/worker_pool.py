"""`run_tasks`: call a function in worker processes, each call within a time limit; a crash ends one call."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, TimeoutError, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from multiprocessing.context import BaseContext
from multiprocessing.synchronize import RLock
from typing import Any, Generic, TypeVar

from pebble import ProcessExpired, ProcessPool

# Workers import this file, so nothing here may import torch, which takes seconds.

MAX_FAILURES = 3  # pools in a row that break before they give a result
Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Lost:
    """A call without a result.

    Attributes:
        reason: the time limit, the death of the worker, or the exception, in one line.
    """

    reason: str


@dataclass(frozen=True)
class Calls(Generic[Task, Result]):
    """How to call a function in worker processes.

    Attributes:
        call: the function; it and its results must be picklable.
        timeout: seconds per call; None: no limit.
        workers: number of worker processes.
        ahead: calls submitted ahead of the oldest one, so that a slow one does not stop the others.
        modules: imported once, in a process from which the workers are forked, where the system can do that.
            Without them, workers are spawned: each imports what it needs.

    Raises:
        ValueError: `workers` or `timeout` is not positive; a pool would wait for ever.
    """

    call: Callable[[Task], Result]
    timeout: float | None
    workers: int
    ahead: int
    modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"the number of worker processes must be positive, got {self.workers}")
        if self.timeout is not None and self.timeout <= 0:
            raise ValueError(f"the time limit of a worker must be positive, got {self.timeout}")


def run_tasks(calls: Calls[Task, Result], tasks: Iterable[Task]) -> Generator["Result | Lost", None, None]:
    """The results of a function for all tasks, in their order.

    Workers are not forked from this process, because a fork would copy locks that its threads hold. A script
    that calls this therefore needs `if __name__ == "__main__":`. To stop early, close the iterator.

    Raises:
        RuntimeError: the workers do not start.
    """
    rest = iter(tasks)
    pending: deque[Task] = deque()  # submitted, without a result yet
    failures = 0
    while True:
        try:
            with pool_of(calls.workers, calls.modules) as pool:
                futures = deque(submit(pool, calls, task) for task in pending)
                while True:
                    while len(pending) < calls.ahead:
                        try:
                            task = next(rest)
                        except StopIteration:
                            break
                        pending.append(task)
                        futures.append(submit(pool, calls, task))
                    if not pending:
                        return
                    result = result_of(pool, futures[0], calls.timeout)
                    futures.popleft()
                    pending.popleft()
                    failures = 0
                    yield result
        except BrokenProcessPool as error:
            # Pebble's pool breaks if a worker dies before it has reported which task it took. This is rare,
            # unless the workers do not start at all.
            failures += 1
            if failures == MAX_FAILURES:
                raise RuntimeError(
                    "the processes that read videos end as they start; a script must call this below "
                    "`if __name__ == '__main__':`"
                ) from error


def submit(pool: ProcessPool, calls: Calls[Task, Result], task: Task) -> "Future[Result]":
    """Submit a call to the pool."""
    if not pool.active:
        raise BrokenProcessPool("the pool has stopped")
    future: Future[Result] = pool.schedule(calls.call, (task,), timeout=calls.timeout)
    return future


def result_of(pool: ProcessPool, future: "Future[Result]", timeout: float | None) -> "Result | Lost":
    """The result of a call, or the reason why there is none."""
    try:
        while not wait([future], 1).done:  # a pool that stops may lose tasks
            if not pool.active:
                raise BrokenProcessPool("the pool has stopped")
        return future.result()
    except BrokenProcessPool:
        raise
    except TimeoutError:
        return Lost(f"no answer within {timeout:g} s (--timeout)")
    except ProcessExpired as error:
        return Lost(f"the process that read it died ({cause_of_death(error.exitcode)})")
    except Exception as error:
        return Lost(one_line(error))


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


class LastingLocks:
    """A context of multiprocessing that keeps the locks that it makes.

    Pebble's pool drops its locks before it ends its workers. A worker that has not started yet would then
    look for a lock that is gone, and print a traceback.
    """

    def __init__(self, context: BaseContext) -> None:
        self.context = context
        self.locks: list[RLock] = []

    def RLock(self) -> RLock:
        self.locks.append(self.context.RLock())
        return self.locks[-1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.context, name)


@contextmanager
def pool_of(workers: int, modules: tuple[str, ...] = ()) -> Iterator[ProcessPool]:
    """A pool of running workers; they are ended on exit, even in the middle of a call.

    Args:
        modules: see `Calls`.
    """
    context = LastingLocks(get_context("forkserver" if modules and hasattr(os, "fork") else "spawn"))
    if modules:
        context.set_forkserver_preload(list(modules))
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


def start_server(modules: tuple[str, ...]) -> None:
    """Start the process from which workers are forked, without waiting until it has imported `modules`."""
    if hasattr(os, "fork"):
        get_context("forkserver").set_forkserver_preload(list(modules))
        with sigint_blocked():
            forkserver.ensure_running()


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Block Ctrl-C for processes and threads that start meanwhile; ignoring it in them would be too late.

    In this process, Ctrl-C waits until the block ends: a worker whose start it cuts off would not be ended.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # if it started inside the block, it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    # An older thread may still get the signal, and Python would call the handler in the main thread.
    caught: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    held = handler is not None and threading.current_thread() is threading.main_thread()
    if held:
        signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if held:
            signal.signal(signal.SIGINT, handler)
        if caught:
            signal.raise_signal(signal.SIGINT)


def prepare_worker() -> None:
    """Make this worker end at once on SIGTERM, and when its parent process is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a Python handler would wait for FFmpeg to return
    if parent := parent_process():

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()
