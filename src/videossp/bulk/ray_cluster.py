"""`run_on_ray`: Ray hands shards to actors that hold the model, on one machine or many."""

import importlib
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from videossp.bulk.parts import Parts
from videossp.bulk.run_shards import Compute, Done, run_shards
from videossp.system.process import prepare_process

# Actors import this file before they call `prepare_process`, so nothing here may import torch.

LOCAL = "local"
RETRIES = 3  # of a call whose actor died
TOGETHER = 8  # shards of a call if each call starts worker processes, which takes seconds
OBJECTS = 100_000_000  # bytes of Ray's shared memory on this machine; only names of videos go through it


@dataclass(frozen=True)
class Job:
    """What an actor does with the videos of a shard; picklable.

    Attributes:
        start: loads the model on a device, with a number of worker processes that decode.
        device: "auto", "cpu" or "cuda". A GPU is used if the cluster has one, unless this is "cpu".
        workers: of an actor; None: none on a CPU, where there is an actor for each core, and with a GPU the
            cores that are left.
    """

    start: Callable[[str, int], Compute]
    device: str = "auto"
    workers: int | None = None


@dataclass(frozen=True)
class Share:
    """The part of a cluster that an actor has.

    Attributes:
        actors: their number.
        cpus, gpus: of one actor.
        workers: decoding processes of one actor.
    """

    actors: int
    cpus: int
    gpus: int
    workers: int


def share_of(cpus: int, gpus: int, job: Job) -> Share:
    """Divide a cluster among actors: one per GPU, or else one per core that no worker process takes."""
    if gpus and job.device != "cpu":
        each = max(1, cpus // gpus)
        return Share(gpus, each, 1, max(1, each - 1) if job.workers is None else job.workers)
    workers = job.workers or 0
    return Share(max(1, cpus // (1 + workers)), 1 + workers, 0, workers)


class ShardActor:
    """Computes shards in a process of Ray. It loads the model at the first call, also after a restart.

    Args:
        job: what to do.
        share: of the cluster.
        parts: where the rows go.
        folder: relative paths of videos start here.
    """

    def __init__(self, job: Job, share: Share, parts: Parts, folder: str) -> None:
        self.job, self.share, self.parts, self.folder = job, share, parts, folder
        self.compute: Compute | None = None

    def load(self) -> Compute:
        """The model, loaded once."""
        if self.compute is None:
            prepare_process()
            import torch

            if os.path.isdir(self.folder):  # else relative paths become rows with errors
                os.chdir(self.folder)
            torch.set_num_threads(max(1, self.share.cpus - self.share.workers))
            device = "cuda" if self.share.gpus else "cpu"
            self.compute = self.job.start(device, self.share.workers)
        return self.compute

    def ready(self) -> list[Done]:
        """Load the model; no shards."""
        self.load()
        return []

    def run(self, videos: dict[int, list[str]]) -> list[Done]:
        """Write the files of shards, given their videos."""
        return [*run_shards([*videos], videos.__getitem__, self.parts, self.load())]


def run_on_ray(
    address: str, shards: Sequence[int], read: Callable[[int], list[str]], parts: Parts, job: Job
) -> Generator[Done, None, None]:
    """Like `run_shards`, by actors of Ray. An actor that dies is started again, and its shards are repeated.

    The folder of the parts, the adapters and local videos must have the same paths on all machines.

    Args:
        address: of a running cluster, as Ray takes it; "local": start Ray on this machine, and end it. It is
            not used if this process has joined a cluster already.
        shards, read, parts: see `run_shards`.
        job: what to do.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at the address.
        RuntimeError: an actor died several times with the same shards; all others were written.
    """
    with _connected(address) as ray:
        free = ray.available_resources()
        share = share_of(int(free.get("CPU", 1)), int(free.get("GPU", 0)), job)
        missing = parts.missing(shards)
        together = TOGETHER if share.workers else 1
        together = max(1, min(together, len(missing) // (4 * share.actors)))
        tasks = [missing[i : i + together] for i in range(0, len(missing), together)][::-1]
        options = {"num_cpus": share.cpus, "num_gpus": share.gpus}
        kind = ray.remote(max_restarts=-1, max_task_retries=RETRIES, **options)(ShardActor)
        actors = [kind.remote(job, share, parts, os.getcwd()) for _ in range(min(share.actors, len(tasks)))]
        # An actor for which the cluster has no place yet is never ready, and gets no shards.
        running: dict[Any, tuple[Any, list[int]]] = {x.ready.remote(): (x, []) for x in actors}
        lost: list[int] = []
        while tasks or any(numbers for _, numbers in running.values()):
            (call,), _ = ray.wait([*running], num_returns=1)
            actor, numbers = running.pop(call)
            try:
                yield from ray.get(call)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayActorError as error:
                if not numbers:
                    raise RuntimeError(f"an actor does not start: {_one_line(error)}") from error
                lost += numbers
            if tasks:
                task = tasks.pop()
                running[actor.run.remote({x: read(x) for x in task})] = actor, task
    if lost:
        raise RuntimeError(
            f"{parts.path(lost[0])}: the process that read its videos died {1 + RETRIES} times"
            + (f"; {len(lost)} parts are missing so" if len(lost) > 1 else "")
            + ("" if share.workers else "; with --workers 1, a video that crashes the decoder is an error")
        )


@contextmanager
def _connected(address: str) -> Generator[Any, None, None]:
    """Ray, connected to a cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would send statistics
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise ValueError("--ray needs Ray: pip install 'videossp[ray]'") from error
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        settings |= {"include_dashboard": False, "object_store_memory": OBJECTS}
    joined = ray.is_initialized()  # by the program that calls this
    if not joined:
        try:
            ray.init(address, **settings)
        except (ConnectionError, ValueError) as error:
            raise ValueError(f"--ray {address}: no cluster answers: {_one_line(error)}") from error
    try:
        yield ray
    finally:
        if not joined:
            ray.shutdown()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
