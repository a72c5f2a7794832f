"""`run_jobs`: the jobs of a kernel on a thread pool.

The kernels release the GIL. Unlike Numba's thread layers, this pool works when several Python threads use it
at once, and after a fork. Its threads flush denormal numbers (below 1e-38) to zero: a gradient that decays
over the sequence passes through them, and on Intel's processors an operation on a denormal takes as long as
a hundred others.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.ma  # Numba imports it in the first call of a kernel, where NumPy before 2.4 warns of denormals
import torch

# Their product is 0 if this thread flushes denormals. Made from its bits: such a thread reads a literal as 0.
TINY, ONE = np.array(0x000116C2, np.uint32).view(np.float32)[()], np.float32(1)
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def run_jobs(kernel: Callable[..., None], jobs: int, *arguments: object) -> None:
    """Call kernel(job, *arguments) for each job in range(jobs), on `torch.get_num_threads()` threads."""
    todo = itertools.count()  # next() on it is atomic: an idle thread takes the next job

    def work() -> None:
        while (job := next(todo)) < jobs:
            kernel(job, *arguments)

    helpers = max(0, min(torch.get_num_threads(), jobs) - 1)
    key = os.getpid(), helpers  # a forked child has no threads: it needs a new pool
    if helpers and key not in _pools:
        _pools[key] = ThreadPoolExecutor(helpers, "videossp-scan", partial(torch.set_flush_denormal, True))
    running = [_pools[key].submit(work) for _ in range(helpers)]
    flushed_before = bool(TINY * ONE == 0)
    torch.set_flush_denormal(True)
    try:
        work()
    finally:
        torch.set_flush_denormal(flushed_before)
    for future in running:
        future.result()
