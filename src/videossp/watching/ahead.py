"""`ahead`: compute the items of an iterator in a thread, a few before they are asked for."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

T = TypeVar("T")


def ahead(
    items: Iterable[T], most: int, stopped: Callable[[], bool] = lambda: False
) -> Generator[T, None, None]:
    """Yield the items; up to `most` of them wait in memory. An exception is raised where it occurred.

    Closing the generator ends the thread after the item that it computes. The generator also ends when
    `stopped` becomes true, even if no item comes.
    """
    waiting: queue.Queue[Callable[[], T] | None] = queue.Queue(most)
    closed = threading.Event()

    def put(item: Callable[[], T] | None) -> bool:
        while not closed.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def compute() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not put(lambda item=item: item):  # type: ignore[misc]
                    return
        except BaseException as error:

            def fail(error: BaseException = error) -> T:
                raise error

            put(fail)
        finally:
            if isinstance(iterator, Generator):
                iterator.close()  # here: another thread must not close a file that this one reads
            put(None)

    thread = threading.Thread(target=compute, name="videossp decoding ahead", daemon=True)
    thread.start()
    try:
        while not stopped():
            try:
                item = waiting.get(timeout=0.2)
            except queue.Empty:
                continue
            if item is None:
                break
            yield item()
    finally:
        closed.set()
        thread.join(1.0)  # a source that gives no frames cannot be interrupted; the thread is a daemon
