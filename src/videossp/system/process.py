"""Settings of the whole process that make the CPU fast (the command line uses them), and its memory."""

import contextlib
import ctypes
import os
import re
import sys
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def prepare_process() -> None:
    """Wait without spinning, and keep freed memory for the next layer. Call it before torch is imported.

    What the user has set by environment variables stands. Elsewhere than on Linux only the first applies.

    - torch's OpenMP threads spin while they wait, and take the cores from the threads of our kernels and
      from other programs: two trainings on the same two cores slow each other down tenfold.
    - glibc gives large freed blocks back to the system and gets them again page by page: for the tens of
      megabytes of every layer that can take longer than to compute them. Pages of 2 MB help as well.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def give_back_memory() -> None:
    """Return what is free between the blocks in use to the system: a fifth of a fragmented glibc heap.

    Before a fork it is worth seconds: a page of the heap that is written to afterwards is copied, whether
    anything is in it or not, for the child has it as well.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory() -> float:
    """Largest resident size of this process so far, in GB (10**9 bytes)."""
    # On Linux getrusage would begin with the peak of the process that started this one.
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(found[1]) * 1024 / 1e9
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset / 1e9)
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9
