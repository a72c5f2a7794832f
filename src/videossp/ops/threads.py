"""Jobs of a kernel on a thread pool of our own.

The kernels release the GIL; and unlike Numba's thread layers, this pool may be used from several
Python threads at once and survives a fork.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def run_jobs(kernel: Callable[..., None], jobs: int, *arguments: object) -> None:
    """Call kernel(job, *arguments) for each job in range(jobs), on as many threads as torch may use."""
    todo = itertools.count()  # its next() is atomic: whoever is free takes the next job

    def work() -> None:
        while (job := next(todo)) < jobs:
            kernel(job, *arguments)

    helpers = min(torch.get_num_threads(), jobs) - 1
    if helpers < 1:
        return work()
    key = os.getpid(), helpers  # threads do not survive a fork: a child makes its own pool
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(helpers, thread_name_prefix="videossp-scan")
    running = [_pools[key].submit(work) for _ in range(helpers)]
    work()
    for future in running:
        future.result()
