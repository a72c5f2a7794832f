"""Jobs of a kernel on a thread pool of our own.

The kernels release the GIL; and unlike Numba's thread layers, this pool may be used from several
Python threads at once and survives a fork. While they run, numbers below 1e-38 are zero: a gradient that
decays over the sequence passes through them, and an operation on one takes Intel's processors as long as a
hundred others.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.ma  # Numba imports it in the first call of a kernel, where NumPy before 2.4 warns of denormals
import torch

# Their product says what this thread does with denormals. By its bits: it may read 1e-40 as 0 already.
TINY, ONE = np.array(0x000116C2, np.uint32).view(np.float32)[()], np.float32(1)
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def run_jobs(kernel: Callable[..., None], jobs: int, *arguments: object) -> None:
    """Call kernel(job, *arguments) for each job in range(jobs), on as many threads as torch may use."""
    todo = itertools.count()  # its next() is atomic: whoever is free takes the next job

    def work() -> None:
        while (job := next(todo)) < jobs:
            kernel(job, *arguments)

    helpers = max(0, min(torch.get_num_threads(), jobs) - 1)
    key = os.getpid(), helpers  # threads do not survive a fork: a child makes its own pool
    if helpers and key not in _pools:
        _pools[key] = ThreadPoolExecutor(helpers, "videossp-scan", partial(torch.set_flush_denormal, True))
    running = [_pools[key].submit(work) for _ in range(helpers)]
    flushing = bool(TINY * ONE == 0)
    torch.set_flush_denormal(True)
    try:
        work()
    finally:
        torch.set_flush_denormal(flushing)
    for future in running:
        future.result()
