"""Errors about worker processes and peer processes that are gone, as one line."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from videossp.errors import WorkerLostError

RESUME = "; continue the run with --resume"


@contextmanager
def explain_lost_processes(resumable: bool = False) -> Iterator[None]:
    """Convert torch's errors about a lost process.

    torch may raise them at any point, not only while waiting for the worker.

    Args:
        resumable: whether this is a training that writes checkpoints: the message advises to resume it.

    Raises:
        WorkerLostError: one line that says what to do.
    """
    advice = RESUME if resumable else ""
    try:
        yield
    except WorkerLostError as error:  # of an evaluation within the training
        if not advice or str(error).endswith(advice):
            raise
        raise WorkerLostError(f"{error}{advice}") from error
    except RuntimeError as error:
        if not (reason := lost_process(str(error))):
            raise
        end_loaders_of_dead_workers()
        raise WorkerLostError(f"{reason}{advice}") from error


def end_loaders_of_dead_workers() -> None:
    """End the iterators of loaders that have a dead worker.

    The error keeps them alive. Until they are ended, torch raises the error again, wherever this process is
    when another child process ends. That may be here too: several workers can die one after the other.
    """
    ended = False
    while not ended:
        try:
            _end_loaders()
            ended = True
        except RuntimeError as error:
            if not lost_process(str(error)):
                raise


def _end_loaders() -> None:
    from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

    for x in gc.get_objects():
        if type(x) is _MultiProcessingDataLoaderIter and not all(w.is_alive() for w in x._workers):
            x._shutdown_workers()


def lost_process(text: str) -> str:
    """The reason in plain words, if this message of torch is about a lost process; else ""."""
    if "DataLoader worker" in text and "Bus error" in text:
        return (
            "a worker process died because the shared memory, /dev/shm, is too small; fewer --workers need "
            "less, --workers 0 needs none"
        )
    if "DataLoader worker" in text:
        return "a worker process died (killed for lack of memory?); fewer --workers may help"
    if "Pin memory thread exited" in text:
        return (
            "the thread that pins memory ended, as it does if a worker process dies; fewer --workers may help"
        )
    if "DataLoader timed out" in text:
        return "a worker process did not answer within the timeout; videossp doctor finds a file that hangs"
    if "Connection closed by peer" in text or "Connection reset by peer" in text:
        return "another process of this run ended; its own message says why"
    return ""
